"""The guided interface: the line of the house, walked one screen at a time."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from textual import work
from textual.app import App
from textual.binding import Binding, BindingType

from advisor.decide.answers import Answers, parse
from advisor.decide.questions import Question, next_question
from advisor.text import N_, language, use
from advisor.tui.screens.hardware import Equipment, HardwareScreen
from advisor.tui.screens.page import Page
from advisor.tui.screens.problem import ProblemScreen
from advisor.tui.screens.question import Answered, QuestionScreen
from advisor.tui.screens.welcome import Example, NewWalk, PastRun, WelcomeScreen
from recipes.errors import Failure


@dataclass(frozen=True, slots=True)
class Walk:
    """What is known so far; each step of the line adds to it."""

    asked: tuple[Answered, ...] = ()
    equipment: Equipment | None = None

    @property
    def answers(self) -> Answers:
        """What the person said, as facts."""
        return parse({answered.question.fact: answered.choice.value for answered in self.asked})


class AdvisorApp(App[None]):
    """The tour: each step waits for a person; None from a step is a step back."""

    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012  (Textual declares no ClassVar)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f8", "language", N_("中文/EN"), show=False, id="lang"),
        Binding("ctrl+q", "quit", N_("Quit"), show=False, id="quit"),
    ]

    def on_mount(self) -> None:
        """Begin."""
        self.tour()

    @work
    async def tour(self) -> None:
        """From the welcome to the report, and back to the welcome."""
        while (start := await self.push_screen_wait(WelcomeScreen(()))) is not None:
            match start:
                case NewWalk():
                    await self.walk(Walk(), OWN_PROBLEM)
                case Example() | PastRun():
                    pass
        self.exit()

    async def walk(self, walk: Walk, line: "Line") -> None:
        """Take the steps of `line` in order; a step that fails, or is left with Escape, leads to the one before."""
        at = 0
        while 0 <= at < len(line):
            after = await self.step(line[at], walk)
            at, walk = (at + 1, after) if after else (at - 1, walk)

    async def step(self, step: "Step", walk: Walk) -> Walk | None:
        """Take one step; a problem that the person can mend is shown and leads back."""
        try:
            return await step(self, walk)
        except Failure as failure:
            await self.push_screen_wait(ProblemScreen(failure))
            return None

    async def questions(self, walk: Walk) -> Walk | None:
        """Ask until nothing can change the advice; Escape takes the last answer back."""
        asked, taken_back = list(walk.asked), None
        if asked:  # we come back from a later step
            taken_back = asked.pop()
        while question := taken_back.question if taken_back else _next(asked):
            said = await self.push_screen_wait(
                QuestionScreen(question, asked, taken_back.choice if taken_back else None)
            )
            taken_back = None
            if said == "enough":
                break
            if said is not None:
                asked.append(Answered(question, said))
            elif asked:
                taken_back = asked.pop()
            else:
                return None
        return replace(walk, asked=tuple(asked))

    async def hardware(self, walk: Walk) -> Walk | None:
        """Which card, which model."""
        equipment = await self.push_screen_wait(HardwareScreen(walk.equipment, lambda _: ()))
        return replace(walk, equipment=equipment) if equipment else None

    async def action_language(self) -> None:
        """Speak the other language, on every screen."""
        use("zh" if language() == "en" else "en")
        for screen in self.screen_stack:
            if isinstance(screen, Page):
                await screen.speak()


Step = Callable[[AdvisorApp, Walk], Awaitable[Walk | None]]
Line = tuple[Step, ...]

OWN_PROBLEM: Line = (AdvisorApp.questions, AdvisorApp.hardware)


def _next(asked: list[Answered]) -> Question | None:
    """The next question after these answers."""
    answers = Walk(tuple(asked)).answers
    return next_question(answers, {answered.question.fact for answered in asked})


def run() -> int:
    """Open the interface and return the exit code."""
    app = AdvisorApp()
    app.run()
    return app.return_code or 0
