"""Something a person can mend: what is wrong, where, and what to do; never a traceback."""

from collections.abc import Iterator

from textual.widget import Widget
from textual.widgets import Button

from advisor.show import failure as say
from advisor.text import N_, t
from advisor.tui.screens.page import Page
from advisor.tui.widgets.panel import Panel
from advisor.tui.widgets.prose import Prose
from recipes.errors import Failure, RecipeError

SHOWN = 8
"""More problems of one file than this do not fit on the smallest screen."""


class ProblemScreen(Page[bool]):
    """Show a failure; whatever is pressed, the tour goes back to the step before."""

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self.failure = failure

    def title_text(self) -> str:
        """Say that something needs attention."""
        return t(N_("Something needs your attention"))

    def body(self) -> Iterator[Widget]:
        """Yield the problem and its remedy."""
        failure = self.failure
        lines: list[Widget] = [Prose(("✗ ", "$text-error"), (say.problem(failure), "bold"))]
        if failure.where:
            lines.append(Prose(t(N_("where: ")), failure.where))
        if isinstance(failure, RecipeError):
            lines += [Prose(f"{p.key}: ", t(p.text, **p.values)) for p in failure.problems[:SHOWN]]
        if failure.remedy:
            lines.append(Prose(t(N_("what to do: ")), say.remedy(failure)))
        yield Panel(failure.code, lines)
        yield Button(t(N_("Back")), id="ok", variant="primary")

    def on_mount(self) -> None:
        """The only way leads back."""
        self.query_one("#ok").focus()

    def on_button_pressed(self) -> None:
        """Go back."""
        self.action_back()
