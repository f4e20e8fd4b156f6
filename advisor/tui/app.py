"""The guided interface: the line of the house, walked one screen at a time."""

import os
import sys
from asyncio import to_thread
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from textual import work
from textual.app import App
from textual.binding import Binding, BindingType

from advisor.catalog.gpus import Hardware, hardware
from advisor.decide.advice import Advice
from advisor.decide.advise import advise
from advisor.decide.answers import Answers, merge, parse
from advisor.decide.measured import facts
from advisor.decide.questions import Question, next_question
from advisor.decide.worlds import primary
from advisor.learn.lantern.tasks import Task, task
from advisor.plan.compose import TRAINED_LEAVES, Wanted, propose
from advisor.plan.proposal import Proposal
from advisor.run import shelf
from advisor.run.directory import Run, alive
from advisor.run.retry import TRIES
from advisor.run.start import start
from advisor.text import N_, inert, language, t, use
from advisor.tui import work as between
from advisor.tui.screens.advice import AdviceScreen
from advisor.tui.screens.data import DataScreen, Dataset
from advisor.tui.screens.hardware import Equipment, HardwareScreen
from advisor.tui.screens.help import HelpScreen
from advisor.tui.screens.page import Page
from advisor.tui.screens.plan import PlanScreen
from advisor.tui.screens.problem import ProblemScreen
from advisor.tui.screens.question import Answered, Leads, QuestionScreen
from advisor.tui.screens.recipe import RecipeScreen
from advisor.tui.screens.report import ReportScreen
from advisor.tui.screens.run import STATES, Left, RunScreen
from advisor.tui.screens.welcome import Example, NewWalk, PastRun, WelcomeScreen
from recipes.errors import Failure
from recipes.report import Report

SHOWN_RUNS = 9
"""As many as there are digits to choose them with."""

Known = TypeVar("Known")


@dataclass(frozen=True, slots=True)
class Walk:
    """What is known so far; each step of the line adds to it. `task` is set on a walk through the example."""

    asked: tuple[Answered, ...] = ()
    equipment: Equipment | None = None
    task: Task | None = None
    measured: Report | None = None
    dataset: Dataset | None = None
    name: str = ""
    advice: Advice | None = None
    proposal: Proposal | None = None
    recipe: Path | None = None
    run: Run | None = None
    finished: bool = False
    """The line ends here: nothing is trained, or the run goes on without us."""

    @property
    def hardware(self) -> Hardware:
        """The card that was chosen; the example runs on what is there."""
        return self.equipment.hardware if self.equipment else hardware()

    @property
    def answers(self) -> Answers:
        """What the person said and what was measured, as facts."""
        said = parse({answered.question.fact: answered.choice.value for answered in self.asked})
        if self.equipment:
            said = merge(said, between.known(self.equipment))
        if not self.task or not self.measured:
            return said
        return merge(
            said,
            parse(self.task.declared, "file"),
            parse({"n_labelled": len(self.task.train)}, "data"),
            parse(facts(self.measured), "report"),
        )


class AdvisorApp(App[None]):
    """The tour: each step waits for a person; None from a step is a step back."""

    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012  (Textual declares no ClassVar)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", N_("Quit"), show=False, id="quit"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.started: list[Run] = []

    def on_mount(self) -> None:
        """Begin."""
        self.set_class(os.environ.get("ADVISOR_GLYPHS") == "ascii", "-ascii")
        self.tour()

    @work
    async def tour(self) -> None:
        """From the welcome to the report, and back to the welcome."""
        while (start_at := await self.push_screen_wait(WelcomeScreen(_past_runs()))) is not None:
            match start_at:
                case NewWalk():
                    await self.walk(Walk(), OWN_PROBLEM)
                case Example(task=name):
                    await self.walk(Walk(task=task(name), name=between.new_name(f"lantern-{name}")), EXAMPLE)
                case PastRun(directory=path):
                    await self.walk(Walk(run=shelf.opened(path)), PAST_RUN)
        self.exit()

    async def walk(self, walk: Walk, line: "Line") -> None:
        """Take the steps of `line` in order; a step that fails, or is left with Escape, leads to the one before."""
        at = 0
        while 0 <= at < len(line):
            after = await self.take(line[at], walk)
            if after and after.finished:
                return
            at, walk = (at + 1, after) if after else (at - 1, walk)

    async def take(self, step: "Step", walk: Walk) -> Walk | None:
        """Take one step; a problem that the person can mend is shown and leads back."""
        try:
            return await step(self, walk)
        except Failure as failure:
            await self.push_screen_wait(ProblemScreen(failure))
            return None

    async def questions(self, walk: Walk) -> Walk | None:
        """Ask until nothing can change the advice; Escape takes the last answer back."""
        asked = list(walk.asked)
        back = asked.pop() if asked else None  # coming back from a later step takes an answer back, too
        while question := back.question if back else _next(asked):
            said = await self.push_screen_wait(
                QuestionScreen(question, asked, _leads(question, asked), back.choice if back else None)
            )
            back = None
            if said == "enough":
                break
            if said is not None:
                asked.append(Answered(question, said))
            elif asked:
                back = asked.pop()
            else:
                return None
        return replace(walk, asked=tuple(asked))

    async def hardware(self, walk: Walk) -> Walk | None:
        """Which card, which model."""
        equipment = await self.push_screen_wait(HardwareScreen(walk.equipment, between.needs))
        return replace(walk, equipment=equipment) if equipment else None

    async def measure(self, walk: Walk) -> Walk | None:
        """Ask the untuned model of the example, before anybody has an opinion."""
        if walk.measured or not walk.task:
            return None  # we come back, and what was measured stays measured
        order = await to_thread(between.probe, walk.task, walk.name)
        run = start(order, run=order.parent / "measured", measure=True)
        if await self.follow(run, name=walk.name) == "detached":
            return None
        return replace(walk, measured=shelf.report(run))

    async def measurement(self, walk: Walk) -> Walk | None:
        """What the untuned model can do."""
        return await self.shown(walk, ReportScreen(_given(walk.measured)))

    async def advise(self, walk: Walk) -> Walk | None:
        """What to do, and why; the line ends here when that is not to train."""
        advice = await to_thread(advise, walk.answers)
        trains = advice.primary in TRAINED_LEAVES
        walk = replace(walk, advice=advice, finished=not trains)
        return await self.shown(walk, AdviceScreen(advice, walk.answers, trains=trains))

    async def data(self, walk: Walk) -> Walk | None:
        """The examples to learn from."""
        dataset = await self.push_screen_wait(DataScreen(walk.dataset))
        if not dataset:
            return None
        return replace(walk, dataset=dataset, name=between.new_name(dataset.path.stem))

    async def plan(self, walk: Walk) -> Walk | None:
        """Every value with its reason."""
        wanted = await to_thread(_wanted, walk)
        first, others = await to_thread(propose, wanted), await to_thread(between.others, wanted)
        screen = PlanScreen(first, usable_bytes=walk.hardware.usable_bytes, others=others)
        proposal = await self.push_screen_wait(screen)
        return replace(walk, proposal=proposal) if proposal else None

    async def recipe(self, walk: Walk) -> Walk | None:
        """The plan as a file that runs anywhere."""
        path = between.recipe(_given(walk.proposal))
        return await self.shown(
            replace(walk, recipe=path), RecipeScreen(path.read_text(encoding="utf-8"), path)
        )

    async def train(self, walk: Walk) -> Walk | None:
        """The run, in a process of its own: leaving the screen, or the program, never ends it."""
        run = walk.run or start(_given(walk.recipe), run=between.place(walk.name))
        left = await self.follow(run, predicted=_given(walk.proposal).estimate.allocated, tries=TRIES)
        state = shelf.entry(run.path).state
        if left is None or (left == "ended" and state in {"error", "died"}):
            return None  # without a report the way leads back to the recipe, where one may try again
        return replace(walk, run=run, finished=left == "detached" or state != "done")

    async def past(self, walk: Walk) -> Walk | None:
        """A run of the shelf: follow it, or see how it ended; then the line ends."""
        run = _given(walk.run)
        if not shelf.entry(run.path).verdict:
            await self.follow(run)
        if shelf.entry(run.path).verdict:
            await self.report(walk)
        return replace(walk, finished=True)

    async def report(self, walk: Walk) -> Walk | None:
        """Whether it helped."""
        return await self.shown(walk, ReportScreen(shelf.report(_given(walk.run))))

    async def follow(
        self, run: Run, *, name: str = "", predicted: int | None = None, tries: int = 0
    ) -> Left | None:
        """Show a run, and say how the person left it: None is a step back from one that is over."""
        if run not in self.started:
            self.started.append(run)
        screen = RunScreen(run, name=name, predicted_bytes=predicted, tries=tries)
        return await self.push_screen_wait(screen)

    async def shown(self, walk: Walk, screen: Page[bool]) -> Walk | None:
        """Show a screen that asks nothing; None if it was left with Escape."""
        return walk if await self.push_screen_wait(screen) else None

    async def action_language(self) -> None:
        """Speak the other language, on every screen."""
        use("zh" if language() == "en" else "en")
        for screen in self.screen_stack:
            if isinstance(screen, Page):
                await screen.speak()

    def action_guide(self) -> None:
        """Explain the screen that is shown; the help itself needs none."""
        if isinstance(self.screen, Page) and not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen.GUIDE, self.screen.own_keys()))


Step = Callable[[AdvisorApp, Walk], Awaitable[Walk | None]]
Line = tuple[Step, ...]

TRAINING: Line = (AdvisorApp.plan, AdvisorApp.recipe, AdvisorApp.train, AdvisorApp.report)
OWN_PROBLEM: Line = (AdvisorApp.questions, AdvisorApp.hardware, AdvisorApp.advise, AdvisorApp.data, *TRAINING)
EXAMPLE: Line = (AdvisorApp.measure, AdvisorApp.measurement, AdvisorApp.advise, *TRAINING)
PAST_RUN: Line = (AdvisorApp.past,)


def _next(asked: list[Answered]) -> Question | None:
    """The next question after these answers."""
    return next_question(Walk(tuple(asked)).answers, {answered.question.fact for answered in asked})


def _leads(question: Question, asked: list[Answered]) -> Leads:
    """Where each answer to a question leads after these answers."""
    before = tuple(asked)
    return lambda choice: primary(Walk((*before, Answered(question, choice))).answers)


def _wanted(walk: Walk) -> Wanted:
    leaf, machine = _given(walk.advice).primary, walk.hardware
    if walk.task and walk.measured:
        return between.example(walk.task, walk.measured, leaf=leaf, name=walk.name, hardware=machine)
    rows, shape = _given(walk.dataset).converted.rows, _given(walk.equipment).model
    return between.own(rows, leaf=leaf, name=walk.name, hardware=machine, shape=shape)


def _given(known: Known | None) -> Known:
    """What an earlier step of the line has brought."""
    if known is None:
        raise LookupError("a step of the line is missing")
    return known


def _past_runs() -> tuple[PastRun, ...]:
    """The newest runs of the shelf."""
    return tuple(
        PastRun(entry.path, t(STATES[entry.state][1])) for entry in shelf.entries(between.RUNS)[:SHOWN_RUNS]
    )


def run() -> int:
    """Open the interface and return the exit code; what still runs is told with the command that finds it again."""
    app = AdvisorApp()
    app.run()
    for left in app.started:
        if alive(left):
            told = t(N_("{run} goes on; watch it with: advisor runs attach {run}"), run=str(left.path))
            sys.stderr.write(inert(told) + "\n")
    return app.return_code or 0
