"""One question with its reason and an everyday picture of it; "I am not sure" is always an answer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget

from advisor.decide.leaves import LEAVES
from advisor.decide.questions import Choice, Question
from advisor.text import N_, t
from advisor.tui.screens.page import Page
from advisor.tui.widgets.choices import Choices
from advisor.tui.widgets.path import Path, PathLine
from advisor.tui.widgets.prose import Prose
from advisor.tui.widgets.why import Why


@dataclass(frozen=True, slots=True)
class Answered:
    """A question and what was chosen."""

    question: Question
    choice: Choice


Leads = Callable[[Choice], str]
"""The leaf that an answer leads to as things stand; given by the tour, so that the screen computes nothing."""


class QuestionScreen(Page[Choice | Literal["enough"]]):
    """Ask one question; dismiss with the choice, with "enough" to see the advice now, or with None to go back."""

    GUIDE = N_(
        "Answer as well as you can: whoever is not sure says so, and nothing is guessed. Below stands where the highlighted answer leads; every answer can be taken back."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b,backspace", "back", N_("Back"), show=False, id="back_too"),
        Binding("u", "unsure", N_("Not sure"), id="unsure"),
        Binding("p", "enough", N_("Advice now"), id="enough"),
    ]

    def __init__(
        self,
        question: Question,
        before: Sequence[Answered],
        leads: Leads,
        chosen: Choice | None = None,
    ) -> None:
        super().__init__()
        self.leads = leads
        self.question, self.before = question, tuple(before)
        self.highlighted = question.choices.index(chosen) if chosen in question.choices else 0

    def title_text(self) -> str:
        """Count the questions."""
        return t(N_("Question {number}"), number=len(self.before) + 1)

    def body(self) -> Iterator[Widget]:
        """Yield the path, the question, its answers and its reason."""
        path = [(t(answered.question.text), t(answered.choice.label)) for answered in self.before]
        with Horizontal():
            yield Path(path, id="path")
            with VerticalScroll(id="asked", can_focus=False):
                yield PathLine(path, id="path_line")
                yield Prose((t(self.question.text), "bold"), id="text")
                yield Choices(
                    [t(c.label) for c in self.question.choices], chosen=self.highlighted, id="choices"
                )
                yield Why(t(self.question.why), t(self.question.analogy), id="why")
                yield Prose(id="leads")

    def on_mount(self) -> None:
        """The answers are what one uses here."""
        self.fill()
        self.query_one("#choices").focus()

    @on(Choices.OptionHighlighted)
    def remember(self, event: Choices.OptionHighlighted) -> None:
        """Keep the place for a change of language, and say where this answer leads."""
        if not self.rebuilding:
            self.highlighted = event.option_index
            self.fill()

    def fill(self) -> None:
        """Say where the highlighted answer would lead if nothing else were asked."""
        leaf = LEAVES[self.leads(self.question.choices[self.highlighted])]
        self.query_one("#leads", Prose).say(
            (t(N_("With this answer, as it stands: ")), "bold"), t(leaf.means)
        )

    @on(Choices.OptionSelected)
    def choose(self, event: Choices.OptionSelected) -> None:
        """That is the answer."""
        self.dismiss(self.question.choices[event.option_index])

    def action_unsure(self) -> None:
        """Unknown is an answer, and never taken for no."""
        self.dismiss(self.question.choices[-1])

    def action_enough(self) -> None:
        """See the advice with what is known now."""
        self.dismiss("enough")
