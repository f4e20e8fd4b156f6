"""The guided interface, walked by a pilot."""

import subprocess
import sys

import pytest

from advisor.text import language, use
from advisor.tui.app import AdvisorApp
from advisor.tui.screens.hardware import HardwareScreen
from advisor.tui.screens.question import QuestionScreen
from advisor.tui.screens.welcome import WelcomeScreen


@pytest.fixture(autouse=True)
def english():
    before = language()
    use("en")
    yield
    use(before)


async def press(pilot, *keys):
    """Press keys one after the other, each when the screen of the one before has settled."""
    for key in keys:
        await pilot.pause(0.08)
        await pilot.press(key)
    await pilot.pause(0.08)


async def test_escape_takes_the_last_answer_back():
    async with (app := AdvisorApp()).run_test() as pilot:
        await press(pilot, "enter", "2", "1", "escape")

        assert (app.screen.question.fact, len(app.screen.before)) == ("knowledge_change", 1)


async def test_escape_on_the_first_question_leads_to_the_welcome():
    async with (app := AdvisorApp()).run_test() as pilot:
        await press(pilot, "enter", "escape")

        assert isinstance(app.screen, WelcomeScreen)


async def test_an_answer_taken_back_is_highlighted_when_it_is_asked_again():
    async with (app := AdvisorApp()).run_test() as pilot:
        await press(pilot, "enter", "1", "3", "escape")

        assert app.screen.query_one("#choices").highlighted == 2


async def test_not_sure_is_always_offered_and_goes_on():
    async with (app := AdvisorApp()).run_test() as pilot:
        await press(pilot, "enter", "u")

        assert app.screen.before[0].choice.value == "unknown"
        assert isinstance(app.screen, QuestionScreen)


async def test_a_change_of_language_keeps_the_place():
    async with (app := AdvisorApp()).run_test() as pilot:
        await press(pilot, "enter", "1", "down", "down", "f8")

        assert app.screen.question.fact == "knowledge_change"
        assert app.screen.query_one("#choices").highlighted == 2
        assert language() == "zh"


async def test_a_small_terminal_is_asked_to_grow():
    async with (app := AdvisorApp()).run_test(size=(50, 15)) as pilot:
        await press(pilot)

        assert app.screen.query_one("#enlarge").display


async def test_a_typed_size_becomes_a_card():
    async with (app := AdvisorApp()).run_test() as pilot:
        await press(pilot, "enter", "p")
        app.screen.query_one("#card_search").focus()
        await press(pilot, "2", "4")

        assert isinstance(app.screen, HardwareScreen)
        assert app.screen.cards[0].name == "24 GB"


def test_the_interface_loads_neither_torch_nor_transformers():
    code = "import advisor.tui.app, sys; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
