"""The guided interface, walked by a pilot."""

import subprocess
import sys

import pytest

from advisor.errors import NoRoom
from advisor.text import language, use
from advisor.tui.app import AdvisorApp, Walk
from advisor.tui.screens.advice import AdviceScreen
from advisor.tui.screens.hardware import HardwareScreen
from advisor.tui.screens.problem import ProblemScreen
from advisor.tui.screens.question import QuestionScreen
from advisor.tui.screens.welcome import WelcomeScreen
from advisor.tui.widgets.memory_bar import against
from advisor.tui.widgets.path import one_line
from advisor.tui.widgets.prose import Prose


@pytest.fixture(autouse=True)
def english():
    before = language()
    use("en")
    yield
    use(before)


async def press(pilot, *keys):
    """Press keys one after the other, each when the screen of the one before has settled."""
    for key in keys:
        await pilot.pause(0.1)
        await pilot.press(key)
    await pilot.pause(0.1)


async def until(pilot, kind, holds=lambda screen: True):
    """Wait for a screen that is as it should be."""
    for _ in range(100):
        await pilot.pause(0.05)
        if isinstance(pilot.app.screen, kind) and holds(pilot.app.screen):
            await pilot.pause(0.1)
            return
    raise AssertionError(f"{kind.__name__} did not come, but {pilot.app.screen!r}")


async def answer(pilot, *keys):
    """Begin a new walk and answer its first questions, each when it is there."""
    await until(pilot, WelcomeScreen)
    await pilot.press("enter")
    await until(pilot, QuestionScreen)
    for number, key in enumerate(keys):
        await until(pilot, QuestionScreen, lambda screen, number=number: len(screen.before) == number)
        await pilot.press(key)
    await pilot.pause(0.2)


async def state(pilot, facts):
    """Begin a new walk and state some facts, unsure of all else, then ask for the advice."""
    await answer(pilot)
    for number in range(20):
        await until(pilot, QuestionScreen, lambda screen, number=number: len(screen.before) == number)
        screen = pilot.app.screen
        if not facts.keys() - {answered.question.fact for answered in screen.before}:
            break
        wanted = facts.get(screen.question.fact, "unknown")
        await pilot.press(str([choice.value for choice in screen.question.choices].index(wanted) + 1))
    await pilot.press("p")


async def test_escape_takes_the_last_answer_back():
    async with (app := AdvisorApp()).run_test() as pilot:
        await answer(pilot, "2")
        second = app.screen.question
        await press(pilot, "1", "escape")

        assert app.screen.question == second
        assert [answered.choice.value for answered in app.screen.before] == ["no"]


async def test_escape_on_the_first_question_leads_to_the_welcome():
    async with (app := AdvisorApp()).run_test() as pilot:
        await answer(pilot, "escape")

        assert isinstance(app.screen, WelcomeScreen)


async def test_an_answer_taken_back_is_highlighted_when_it_is_asked_again():
    async with (app := AdvisorApp()).run_test() as pilot:
        await answer(pilot, "1", "3", "escape")

        assert app.screen.query_one("#choices").highlighted == 2


async def test_not_sure_is_always_offered_and_goes_on():
    async with (app := AdvisorApp()).run_test() as pilot:
        await answer(pilot, "u")

        assert app.screen.before[0].choice.value == "unknown"
        assert isinstance(app.screen, QuestionScreen)


async def test_a_change_of_language_keeps_the_place():
    async with (app := AdvisorApp()).run_test() as pilot:
        await answer(pilot, "1", "down")
        await press(pilot, "down", "f8")

        assert app.screen.question.fact == "knowledge_change"
        assert app.screen.query_one("#choices").highlighted == 2
        assert language() == "zh"


async def test_a_walk_leads_from_the_welcome_to_the_advice():
    async with (app := AdvisorApp()).run_test() as pilot:
        await state(pilot, {"lacks_knowledge": "no", "lacks_style_format": "yes", "prompt_can_fix": "no"})
        await until(pilot, HardwareScreen)
        await press(pilot, "enter", "enter")
        await until(pilot, AdviceScreen)

        assert app.screen.advice.classic_leaf == "FT2"


async def test_an_advice_not_to_train_ends_the_walk_at_the_welcome():
    async with (app := AdvisorApp()).run_test() as pilot:
        await answer(pilot, "1", "p")
        await until(pilot, HardwareScreen)
        await press(pilot, "enter", "enter")
        await until(pilot, AdviceScreen)
        trains = app.screen.trains
        await press(pilot, "enter")
        await until(pilot, WelcomeScreen)

        assert not trains


async def test_a_problem_is_shown_and_leads_back_to_the_step_before():
    async with (app := AdvisorApp()).run_test() as pilot:
        await press(pilot)
        app.walk_task = app.run_worker(app.walk(Walk(), (ask, fail)))
        await until(pilot, ProblemScreen)
        await press(pilot, "enter")
        await until(pilot, WelcomeScreen)

        assert asked == ["asked", "asked"]


asked = []


async def ask(app, walk):
    asked.append("asked")
    return walk if len(asked) == 1 else None


async def fail(app, walk):
    raise NoRoom("there is no room", remedy="make some")


async def test_a_small_terminal_is_asked_to_grow():
    async with (app := AdvisorApp()).run_test(size=(50, 15)) as pilot:
        await press(pilot)

        assert app.screen.query_one("#enlarge").display


async def test_a_typed_size_becomes_a_card():
    async with (app := AdvisorApp()).run_test() as pilot:
        await answer(pilot, "p")
        await until(pilot, HardwareScreen)
        app.screen.query_one("#card_search").focus()
        await press(pilot, "2", "4")

        assert isinstance(app.screen, HardwareScreen)
        assert app.screen.cards[0].name == "24 GB"


def test_the_interface_loads_neither_torch_nor_transformers():
    code = "import advisor.tui.app, sys; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_list_that_moves_while_the_language_changes_finds_no_widgets_and_does_no_harm(monkeypatch):
    async with (app := AdvisorApp()).run_test() as pilot:
        await answer(pilot, "p")
        await until(pilot, HardwareScreen)
        screen, again = app.screen, app.screen.recompose

        async def slowly():
            cards = screen.query_one("#cards")
            moved = cards.OptionHighlighted(cards, cards.options[1], 1)
            await screen.query("#memory").remove()
            screen.post_message(moved)
            await pilot.pause(0.2)
            await again()

        monkeypatch.setattr(screen, "recompose", slowly)
        await screen.speak()
        await until(pilot, HardwareScreen, lambda screen: screen.query_one("#against").plain)


async def test_a_change_of_language_keeps_card_and_model():
    async with (app := AdvisorApp()).run_test() as pilot:
        await answer(pilot, "p")
        await until(pilot, HardwareScreen)
        await press(pilot, "down", "down", "tab", "tab", "down")
        before = app.screen._highlighted()
        await press(pilot, "l")
        await until(pilot, HardwareScreen, lambda screen: screen._highlighted() is not None)

        assert app.screen._highlighted() == before


async def test_a_slash_leads_from_a_list_to_its_search():
    async with (app := AdvisorApp()).run_test() as pilot:
        await answer(pilot, "p")
        await until(pilot, HardwareScreen)
        await press(pilot, "enter", "slash", *"falcon")

        assert app.screen.focused.id == "model_search"
        assert all("falcon" in shape.name.casefold() for shape in app.screen.shapes)


async def test_each_answer_says_where_it_leads_before_it_is_given():
    async with (app := AdvisorApp()).run_test() as pilot:
        await answer(pilot)
        yes = app.screen.query_one("#leads").plain
        await press(pilot, "down")

        assert app.screen.query_one("#leads").plain not in ("", yes)


async def test_the_way_is_told_in_words_and_not_in_names_of_nodes():
    async with (app := AdvisorApp()).run_test(size=(120, 60)) as pilot:
        await state(pilot, {"lacks_knowledge": "no", "lacks_style_format": "yes", "prompt_can_fix": "no"})
        await until(pilot, HardwareScreen)
        await press(pilot, "enter", "enter")
        await until(pilot, AdviceScreen)
        told = " ".join(prose.plain for prose in app.screen.query(Prose))

        assert "Is knowledge missing? No" in told
        assert not [name for name in ("Q1", "s_style", "u_update", "eval_set_size") if name in told]


def test_the_newest_answer_is_in_the_line_at_any_width():
    answers = [("Is A so?", "Yes: it is"), ("Is B, which is long, perhaps so?", "No")]

    assert one_line(answers, 80) == "Is A so? Yes > Is B, which is long, perhaps so? No"
    assert one_line(answers, 45) == "... > Is B, which is long, perhaps so? No"
    assert one_line(answers, 24) == "... > Is B, which... No"


def test_a_bar_shows_where_the_card_ends():
    assert against(30, 10, 40, 8) == "##|###.."
    assert against(10, 40, 40, 8) == "##.....|"
    assert against(1, 1000, 1000, 8)[0] == "#"
