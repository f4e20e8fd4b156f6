"""What the screens say: axes, second opinion, origins of facts, keys; a wrong input is told and nothing typed is lost."""

import json
from dataclasses import replace

import pytest
from test_tui import press, until
from test_tui_screens import report as a_report
from test_tui_screens import wanted
from textual.widgets import Input

from advisor.decide.advice import Contested
from advisor.decide.advise import advise
from advisor.decide.answers import merge, parse
from advisor.plan.compose import propose
from advisor.run.directory import Run
from advisor.text import language, use
from advisor.tui.app import PAST_RUN, AdvisorApp, Walk
from advisor.tui.screens.advice import AdviceScreen
from advisor.tui.screens.data import DataScreen
from advisor.tui.screens.hardware import HardwareScreen
from advisor.tui.screens.help import HelpScreen
from advisor.tui.screens.question import QuestionScreen
from advisor.tui.screens.recipe import RecipeScreen
from advisor.tui.screens.report import ReportScreen
from advisor.tui.screens.run import RunScreen
from advisor.tui.screens.welcome import WelcomeScreen
from advisor.tui.widgets.memory_bar import Need, row
from advisor.tui.widgets.prose import Prose

SAID = {"lacks_knowledge": "no", "lacks_style_format": "yes", "prompt_can_fix": "no"}


@pytest.fixture(autouse=True)
def english():
    before = language()
    use("en")
    yield
    use(before)


def words(app):
    """All that stands on the screen, in one line."""
    return " ".join(" ".join(prose.plain.split()) for prose in app.screen.query(Prose))


async def advised(pilot, answers, change=lambda advice: advice):
    """Open the advice on some answers."""
    await until(pilot, WelcomeScreen)
    await pilot.app.push_screen(AdviceScreen(change(advise(answers)), answers, trains=True))
    await until(pilot, AdviceScreen)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_advice_names_its_four_choices_and_what_the_second_opinion_prefers(size):
    def contested(advice):
        return replace(advice, contested=Contested("rag", 1.25, 0.5))

    async with (app := AdvisorApp()).run_test(size=size) as pilot:
        await advised(pilot, parse({**SAID, "privacy": "on_prem"}), contested)

        assert "in the context: the prompt alone what is learned: imitate examples" in words(app)
        assert "what moves: LoRA on 16-bit weights where it runs: on your own machines" in words(app)
        assert (
            "prefers: Look the facts up when answering (retrieval, lookup tools, SQL). 1.2 against 0.5"
            in words(app)
        )


async def test_every_fact_is_listed_under_where_it_is_from_and_what_is_assumed_comes_last():
    answers = merge(
        parse(SAID),
        parse({"n_labelled": 224}, "data"),
        parse({"prompt_success": 0.4}, "report"),
        parse({"vram_gb": 24}, "detected"),
        parse({"model_params_b": 8}, "hardware"),
    )
    async with (app := AdvisorApp()).run_test(size=(120, 60)) as pilot:
        await advised(pilot, answers)
        told = words(app)
        order = [
            "said:",
            "counted in the data:",
            "measured:",
            "detected on this computer:",
            "read from the catalogue:",
        ]

        assert all(origin in told for origin in order)
        assert "counted in the data: - number of input and ideal-output pairs: 224" in told
        assert "detected on this computer: - memory of one GPU in GB: 24" in told


async def test_what_nobody_said_is_listed_as_assumed():
    async with (app := AdvisorApp()).run_test(size=(120, 60)) as pilot:
        await advised(pilot, parse({"lacks_knowledge": "yes"}))

        assert "assumed, because nobody said: - Does the knowledge change often?" in words(app)


async def test_two_facts_that_change_it_only_together_are_shown():
    async with (app := AdvisorApp()).run_test(size=(120, 60)) as pilot:
        await advised(pilot, parse({"prompt_success": 1.0, "prompt_can_fix": "yes"}))

        assert "only together: the price of each answer matters: Yes; whether a stronger model" in words(app)


@pytest.mark.parametrize("typed", ["-5", "nan", "99999999", "no such card", "1e99"])
async def test_a_card_that_nobody_knows_is_told_and_what_was_typed_stays(typed):
    async with (app := AdvisorApp()).run_test() as pilot:
        await hardware(pilot)
        field = app.screen.query_one("#card_search", Input)
        field.focus()
        field.value = typed
        await press(pilot, "enter")

        assert f"no card is meant by {typed!r}" in words(app)
        assert (field.value, app.screen.focused) == (typed, field)


@pytest.mark.parametrize("typed", ["no such model", "/nowhere/at/all", "{empty}", "{broken}"])
async def test_a_model_that_nobody_knows_is_told_and_what_was_typed_stays(typed, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    typed = typed.format(empty=tmp_path / "empty", broken=tmp_path / "broken")
    async with (app := AdvisorApp()).run_test() as pilot:
        await hardware(pilot)
        field = app.screen.query_one("#model_search", Input)
        field.focus()
        field.value = typed
        await press(pilot, "enter")

        assert app.screen.query_one("#against", Prose).plain.startswith("✗ ")
        assert (field.value, app.screen.focused) == (typed, field)


async def hardware(pilot):
    """Open the question for card and model."""
    await press(pilot, "1")
    await until(pilot, QuestionScreen)
    await press(pilot, "p")
    await until(pilot, HardwareScreen)


@pytest.mark.parametrize("content", [None, b"", b"not json\n", b"\xff\xfe\x00\x01", b'{"a": 1}\n'])
async def test_a_file_that_cannot_be_used_is_told_and_its_path_stays(content, tmp_path):
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_bytes(content)
    async with (app := AdvisorApp()).run_test() as pilot:
        await until(pilot, WelcomeScreen)
        await app.push_screen(DataScreen(None))
        await until(pilot, DataScreen)
        app.screen.query_one("#path", Input).value = str(path)
        await press(pilot, "enter")
        await until(pilot, DataScreen, lambda screen: "✗" in screen.query_one("#findings", Prose).plain)

        assert app.screen.query_one("#path", Input).value == str(path)
        assert app.screen.dataset is None


async def test_help_names_the_keys_of_the_screen_and_leads_back_to_the_same_place():
    async with (app := AdvisorApp()).run_test() as pilot:
        await press(pilot, "1")
        await until(pilot, QuestionScreen)
        question = app.screen
        await press(pilot, "down", "question_mark")
        await until(pilot, HelpScreen)
        told = words(app)
        await press(pilot, "f8")
        chinese = words(app)
        await press(pilot, "escape")

        assert "Answer as well as you can" in told
        assert "u Not sure" in told
        assert "p Advice now" in told
        assert "尽量回答" in chinese
        assert "不确定" in chinese
        assert app.screen is question
        assert question.highlighted == 1


async def test_f1_helps_where_a_question_mark_is_text():
    async with (app := AdvisorApp()).run_test() as pilot:
        await until(pilot, WelcomeScreen)
        await app.push_screen(DataScreen(None))
        await until(pilot, DataScreen)
        await press(pilot, "question_mark", "f1")
        await until(pilot, HelpScreen)
        await press(pilot, "escape")

        assert app.screen.query_one("#path", Input).value == "?"


def test_a_way_of_training_without_a_name_of_its_own_has_a_bar_all_the_same():
    assert "brand_new" in row(Need("brand_new", "fits", 1), 10, 10, 60).plain


def directory(path, *events, report=None):
    """A run that is over."""
    path.mkdir(parents=True)
    lines = [{"type": "start", "steps": 2, "method": "lora", "model": "m"}, *events]
    told = [
        {"v": 1, "seq": n, "t": "2026-11-20T12:00:00.000Z", "mono": n, **line} for n, line in enumerate(lines)
    ]
    (path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    if report:
        (path / "report.json").write_text(report.model_dump_json())
    return Run(path)


async def test_back_from_the_report_of_a_past_run_leads_to_the_welcome(tmp_path):
    run = directory(tmp_path / "run", {"type": "done", "state": "done"}, report=a_report())
    async with (app := AdvisorApp()).run_test() as pilot:
        await press(pilot)
        walked = app.run_worker(app.walk(Walk(run=run), PAST_RUN))
        await until(pilot, ReportScreen)
        await press(pilot, "escape")
        await until(pilot, WelcomeScreen)

        assert walked.is_finished


@pytest.mark.parametrize("key", ["escape", "enter"])
async def test_a_past_run_without_a_report_leads_to_the_welcome(tmp_path, key):
    run = directory(tmp_path / "run", {"type": "error", "code": "R0103", "message": "no device"})
    async with (app := AdvisorApp()).run_test() as pilot:
        await press(pilot)
        walked = app.run_worker(app.walk(Walk(run=run), PAST_RUN))
        await until(pilot, RunScreen, lambda screen: screen.story.ended)
        await press(pilot, key)
        await until(pilot, WelcomeScreen)

        assert walked.is_finished


async def test_a_run_that_fails_leads_back_to_its_recipe_and_can_be_tried_again(tmp_path, monkeypatch):
    started = []

    def start(recipe, *, run):
        started.append(run)
        return directory(run, {"type": "error", "code": "R0103", "message": "no device"})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("advisor.tui.app.start", start)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("name = 'x'\n")
    walk = Walk(name="voice", recipe=recipe, proposal=propose(wanted()))

    async def shown(app, walk):
        return await app.shown(walk, RecipeScreen("", recipe))

    async with (app := AdvisorApp()).run_test() as pilot:
        await press(pilot)
        app.run_worker(app.walk(walk, (shown, AdvisorApp.train, AdvisorApp.report)))
        for key in ("enter", "escape"):
            await until(pilot, RecipeScreen)
            await press(pilot, "t")
            await until(pilot, RunScreen, lambda screen: screen.story.ended)
            await press(pilot, key)
        await until(pilot, RecipeScreen)

    assert [str(path) for path in started] == ["runs/voice", "runs/voice-2"]


async def test_a_run_that_is_over_is_drawn_once_and_not_at_every_look(tmp_path, monkeypatch):
    run = directory(tmp_path / "run", {"type": "error", "code": "R0103", "message": "no device"})
    async with (app := AdvisorApp()).run_test() as pilot:
        await press(pilot)
        await app.push_screen(RunScreen(run))
        await until(pilot, RunScreen, lambda screen: screen.story.ended)
        await pilot.pause(0.5)
        drawn = []
        monkeypatch.setattr(app.screen, "_show", drawn.append)
        for _ in range(3):
            app.screen.poll()

        assert drawn == []
