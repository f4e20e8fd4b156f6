"""The first screen: a new walk, the embedded example, or a run of yesterday."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from advisor.text import N_, t
from advisor.tui.screens.page import Page
from advisor.tui.widgets.choices import Choices
from advisor.tui.widgets.prose import Prose

Task = Literal["voice", "easy", "facts"]


@dataclass(frozen=True, slots=True)
class NewWalk:
    """Advise on a problem of one's own."""


@dataclass(frozen=True, slots=True)
class Example:
    """Walk the line on a task of the embedded example."""

    task: Task


@dataclass(frozen=True, slots=True)
class PastRun:
    """Look at a run on the shelf; `state` is a word in the reader's language."""

    directory: Path
    state: str


Start = NewWalk | Example | PastRun

EXAMPLES: dict[Task, str] = {
    "voice": N_("Embedded example: teach a small model a voice (measure, advise, train, report)"),
    "easy": N_("Embedded example: a task that a prompt solves (measure, advise)"),
    "facts": N_("Embedded example: fresh facts that the model cannot know (measure, advise)"),
}


class WelcomeScreen(Page[Start]):
    """Ask where to begin; None leaves the program."""

    GUIDE = N_(
        "Choose where to begin: your own problem, an example that is embedded and needs nothing else, or a run that is on the shelf."
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "back", N_("Quit"), id="quit")]

    def __init__(self, runs: Sequence[PastRun]) -> None:
        super().__init__()
        self.starts: tuple[Start, ...] = (NewWalk(), *map(Example, EXAMPLES), *runs)

    def title_text(self) -> str:
        """Greet."""
        return t(N_("Welcome"))

    def body(self) -> Iterator[Widget]:
        """Yield three lines of introduction and the ways to begin."""
        yield Prose(
            t(
                N_(
                    "Should you write a better prompt, look things up, or fine-tune a language model? Answer a few "
                    "questions and get advice with its reasons; where training is right, also a plan that fits your "
                    "hardware, a recipe, the run and a report that says whether it helped."
                )
            ),
            id="intro",
        )
        yield Choices([_label(start) for start in self.starts], id="starts")

    def on_mount(self) -> None:
        """The list is what one uses here."""
        self.query_one("#starts").focus()

    @on(Choices.OptionSelected)
    def choose(self, event: Choices.OptionSelected) -> None:
        """Begin there."""
        self.dismiss(self.starts[event.option_index])


def _label(start: Start) -> str:
    match start:
        case NewWalk():
            return t(N_("Advise me: from my problem to a plan"))
        case Example(task=task):
            return t(EXAMPLES[task])
        case PastRun(directory=directory, state=state):
            return t(N_("Past run: {name} ({state})"), name=directory.name, state=state)
