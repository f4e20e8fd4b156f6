"""Every screen at both sizes and in both languages: all rows have the terminal's width, and hostile data stays text."""

import json
import os
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual import work
from textual.widgets import Input

from advisor.catalog.gpus import hardware
from advisor.catalog.models import local
from advisor.data.convert import convert
from advisor.data.stats import DataStats
from advisor.decide.advise import advise
from advisor.decide.answers import parse
from advisor.decide.questions import QUESTIONS
from advisor.errors import UnknownName
from advisor.learn.lantern.base import DIRECTORY
from advisor.plan.compose import RowFiles, Wanted, propose
from advisor.run.directory import Run
from advisor.text import language, use
from advisor.tui import work as between
from advisor.tui.app import AdvisorApp, run
from advisor.tui.screens.advice import AdviceScreen
from advisor.tui.screens.data import DataScreen, Dataset
from advisor.tui.screens.hardware import HardwareScreen
from advisor.tui.screens.plan import PlanScreen
from advisor.tui.screens.problem import ProblemScreen
from advisor.tui.screens.question import Answered, QuestionScreen
from advisor.tui.screens.recipe import RecipeScreen
from advisor.tui.screens.report import ReportScreen
from advisor.tui.screens.run import RunScreen
from advisor.tui.screens.welcome import PastRun, WelcomeScreen
from recipes.plan import Evaluation
from recipes.report import Arm, Difference, Duration, Memory, Rate, Report, Training

MARKUP = "[/] [@click=app.quit]x[/] 很长的中文说明，没有空格。"
HOSTILE = f"{MARKUP} \x1b]52;c;aGk=\x07 \u202e"
STYLE = {
    "lacks_knowledge": "no",
    "lacks_style_format": "yes",
    "prompt_can_fix": "no",
    "prompt_success": 0.4,
    "n_labelled": 800,
    "eval_set_size": 200,
    "vram_gb": 24,
    "model_params_b": 8,
}


@pytest.fixture(autouse=True)
def english():
    before = language()
    use("en")
    yield
    use(before)


def rate(value):
    return Rate(value=value, low=max(0, value - 0.05), high=min(1, value + 0.05), n=100)


def report():
    arms = [
        Arm(name=name, scores={"style": rate(value), "fact": rate(0.98)}, prompt_tokens=22, seconds=3)
        for name, value in (("base", 0.0), ("prompt", 0.02), ("few_shot", 0.03), ("tuned", 1.0))
    ]
    difference = Difference(
        score="style",
        against="few_shot",
        value=0.97,
        low=0.9,
        high=1,
        p_value=1e-9,
        test="mcnemar",
        detectable=0.1,
    )
    training = Training(
        method="lora",
        steps=60,
        trained_tokens=9000,
        tokens=30000,
        rows=400,
        rows_dropped=0,
        first_loss=3.1,
        last_loss=0.01,
        held_out_loss=0.02,
        trainable_parameters=233_472,
        parameters=1_967_808,
        memory=Memory(quantity="cpu_peak_rss_delta", measured_bytes=300 * 2**20, predicted_bytes=290 * 2**20),
        duration=Duration(measured_seconds=14, predicted_low=9, predicted_high=22),
        output="adapter",
    )
    return Report(
        run=MARKUP,
        model=MARKUP,
        primary="style",
        held_out_rows=100,
        arms=arms,
        differences=(difference,),
        verdict="helped",
        training=training,
        versions={},
        machine={},
        finished="2026-11-20T12:00:00Z",
    )


def wanted():
    files = RowFiles("train.jsonl", "0" * 64, "held_out.jsonl", "1" * 64)
    counted = DataStats(400, 30_000, 9_000, 90, 80, 75.0, "estimated")
    return Wanted(
        "sft_lora",
        "voice",
        "base",
        local(DIRECTORY),
        files,
        counted,
        Evaluation(prompt=HOSTILE),
        hardware(24),
    )


def plan_screen():
    usable = hardware(24).usable_bytes
    return PlanScreen(propose(wanted()), usable_bytes=usable, others=between.others(wanted()))


def run_directory(path, *, alive=True):
    """A run whose process is this one (or none), with a short story that tries to break the screen."""
    lines = [
        {"type": "start", "steps": 10, "method": HOSTILE},
        {"type": "phase", "name": HOSTILE},
        *(
            {"type": "step", "step": i, "loss": 3.0 / i, "lr": 1e-3, "tps": 900.0, "eta": 9.0}
            for i in range(1, 8)
        ),
        {"type": "checkpoint", "step": 5},
        {"type": "warn", "code": "W1", "msg": HOSTILE},
    ]
    (path / "control").mkdir(parents=True)
    (path / "control" / "run.json").write_text(json.dumps({"pid": os.getpid() if alive else 2**22 + 1}))
    events = [{"v": 1, "seq": n, "t": "", "mono": float(n), **line} for n, line in enumerate(lines)]
    (path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return Run(path)


def dataset(path):
    rows = [{"prompt": f"question {n} {HOSTILE}", "completion": f"answer {n}"} for n in range(9)]
    file = path / "rows [bold].jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    return Dataset(file, convert(file))


def screens(path):
    """One of each, with as much hostile data as it can be given."""
    asked = [Answered(question, question.choices[0]) for question in QUESTIONS[:4]]
    longest = max(QUESTIONS, key=lambda question: len(question.choices))
    return [
        WelcomeScreen([PastRun(Path(f"runs/{HOSTILE}"), "running")]),
        QuestionScreen(longest, asked, lambda choice: "rag"),
        HardwareScreen(None, between.needs),
        AdviceScreen(advise(parse(STYLE)), parse(STYLE), trains=True),
        AdviceScreen(advise(parse({})), parse({}), trains=False),
        DataScreen(dataset(path)),
        plan_screen(),
        RecipeScreen(f"# {HOSTILE}\nname = 'x'\n", Path(HOSTILE)),
        RunScreen(run_directory(path / "alive"), predicted_bytes=2**30),
        RunScreen(run_directory(path / "dead", alive=False)),
        ReportScreen(report()),
        ProblemScreen(UnknownName("model", HOSTILE, ["a"], listing="advisor models")),
    ]


@asynccontextmanager
async def shown(screen, size=(80, 24)):
    """The application with one screen instead of the tour."""

    class Shows(AdvisorApp):
        CSS_PATH = Path(between.__file__).parent / "app.tcss"

        @work
        async def tour(self):
            self.answer = await self.push_screen_wait(screen)

    async with (app := Shows()).run_test(size=size) as pilot:
        await pilot.pause(0.1)
        yield app, pilot


async def drawn(app, pilot):
    """The rows as they stand on the terminal, once the footer (which comes last) is there."""
    for _ in range(40):
        await pilot.pause(0.05)
        rows = app.screen._compositor.render_strips()
        if "esc" in rows[-1].text or "中文/EN" in rows[-1].text:
            return rows
    raise AssertionError(f"{type(app.screen).__name__} has no footer")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
@pytest.mark.parametrize("speaks", ["en", "zh"])
async def test_every_row_of_every_screen_has_the_width_of_the_terminal(tmp_path, size, speaks):
    use(speaks)
    wrong = []
    async with shown(WelcomeScreen(()), size) as (app, pilot):
        for screen in screens(tmp_path):
            await app.push_screen(screen)
            rows = await drawn(app, pilot)
            wrong += [f"{type(screen).__name__}: {row.text!r}" for row in rows if row.cell_length != size[0]]
            await app.pop_screen()

    assert not wrong


async def test_no_control_character_of_the_data_reaches_the_terminal(tmp_path):
    raw = []
    async with shown(WelcomeScreen(())) as (app, pilot):
        for screen in screens(tmp_path):
            await app.push_screen(screen)
            raw += [row.text for row in await drawn(app, pilot) if not row.text.isprintable()]
            await app.pop_screen()

    assert not raw


async def test_a_digit_takes_another_plan_and_enter_writes_what_is_shown():
    screen = plan_screen()
    kinds = [one.plan.adaptation.kind for one in screen.others]
    other = next(
        number for number, kind in enumerate(kinds, 1) if kind != screen.proposal.plan.adaptation.kind
    )
    async with shown(screen) as (app, pilot):
        await pilot.press(str(other), "9")
        await pilot.pause(0.2)
        taken = screen.proposal.plan.adaptation.kind
        await pilot.press("enter")
        await pilot.pause(0.1)

        assert taken == kinds[other - 1]
        assert app.answer.plan.adaptation.kind == taken


async def test_a_run_that_is_over_can_neither_be_paused_nor_stopped(tmp_path):
    async with shown(RunScreen(run_directory(tmp_path / "dead", alive=False))) as (app, pilot):
        await pilot.pause(0.4)

        assert app.screen.story.state == "died"
        assert not {"space", "s"} & set(app.screen.active_bindings)
        assert "enter" in app.screen.active_bindings


async def test_pausing_leaves_a_wish_and_changes_no_state(tmp_path):
    goes = run_directory(tmp_path / "alive")
    async with shown(RunScreen(goes)) as (app, pilot):
        await pilot.press("space")
        await pilot.pause(0.1)

        assert (goes.path / "control" / "pause").exists()
        assert app.screen.story.state == "running"


async def test_a_torn_last_line_is_not_read_until_it_is_whole(tmp_path):
    goes = run_directory(tmp_path / "alive")
    whole = goes.events.read_bytes()
    line = (
        json.dumps({"v": 1, "seq": 99, "t": "", "mono": 1.0, "type": "step", "step": 8, "loss": 0.1}) + "\n"
    )
    goes.events.write_bytes(whole + line[:20].encode())
    async with shown(RunScreen(goes)) as (app, pilot):
        await pilot.pause(0.3)
        before = app.screen.story.progress.step
        goes.events.write_bytes(whole + line.encode())
        await pilot.pause(0.5)

        assert (before, app.screen.story.progress.step) == (7, 8)


async def test_a_file_is_read_then_taken(tmp_path):
    file = dataset(tmp_path).path
    async with shown(DataScreen(None)) as (app, pilot):
        app.screen.query_one(Input).value = str(file)
        await pilot.press("enter")
        await pilot.pause(0.5)
        await pilot.press("enter")
        await pilot.pause(0.2)

        assert app.answer.path == file


async def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path):
    async with shown(DataScreen(None)) as (app, pilot):
        app.screen.query_one(Input).value = str(tmp_path / "nowhere.jsonl")
        await pilot.press("enter")
        await pilot.pause(0.5)

        assert "nowhere.jsonl" in app.screen.query_one("#findings").plain
        assert app.screen.dataset is None


def test_leaving_names_the_command_that_finds_a_running_run_again(tmp_path, monkeypatch, capsys):
    runs = [run_directory(tmp_path / "alive"), run_directory(tmp_path / "dead", alive=False)]
    monkeypatch.setattr(AdvisorApp, "run", lambda app: app.started.extend(runs))

    code, told = run(), capsys.readouterr().err

    assert (code, told.count("advisor runs attach")) == (0, 1)


async def test_the_log_is_broken_again_when_the_terminal_changes(tmp_path):
    screen = RunScreen(run_directory(tmp_path))
    async with shown(screen, (120, 40)) as (app, pilot):
        await drawn(app, pilot)
        for width in (120, 80, 64, 110):
            await pilot.resize_terminal(width, 30)
            await pilot.pause(0.3)
            log = screen.query_one("#log")

            assert log.max_scroll_x == 0
            assert "safe up to step 5" in " ".join(strip.text for strip in log.lines)


@pytest.mark.parametrize(("lives", "left"), [(True, "detached"), (False, None)])
async def test_escape_leaves_a_run_that_goes_on_and_steps_back_from_one_that_ended(tmp_path, lives, left):
    async with shown(RunScreen(run_directory(tmp_path, alive=lives))) as (app, pilot):
        await drawn(app, pilot)
        offered = {key: active.binding.description for key, active in app.screen.active_bindings.items()}
        await pilot.press("escape")
        await pilot.pause(0.2)

        assert app.answer == left
        assert ("Detach" in offered.values()) == lives


@pytest.mark.parametrize(("lives", "told"), [(True, True), (False, False)])
async def test_only_a_run_that_goes_on_has_time_left(tmp_path, lives, told):
    screen = RunScreen(run_directory(tmp_path, alive=lives))
    async with shown(screen) as (app, pilot):
        await drawn(app, pilot)

        assert ("left" in screen.query_one("#state").plain) is told
