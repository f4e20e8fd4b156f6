"""The recipe as it will be run: each value with its reason above it."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.highlight import highlight
from textual.widget import Widget

from advisor.text import N_, inert, t
from advisor.tui.screens.page import Page
from advisor.tui.widgets.prose import Prose


class RecipeScreen(Page[bool]):
    """Show the text of a recipe and where it stands; True starts the run."""

    GUIDE = N_("The whole run in one file. Train here, or copy its folder to another machine.")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("t", "train", N_("Train"), id="train")]

    def __init__(self, text: str, path: Path) -> None:
        super().__init__()
        self.text, self.path = text, path

    def title_text(self) -> str:
        """Name the step and the file."""
        return t(N_("Recipe: {path}"), path=self.path)

    def body(self) -> Iterator[Widget]:
        """Yield the text with its colours, and what can be done with it."""
        with VerticalScroll(id="recipe", classes="panel"):
            yield Prose(highlight(inert(self.text, limit=100_000), language="toml"))
        yield Prose(
            t(
                N_(
                    "The file is written. Press t to train here; or copy its folder to any machine and run there:"
                )
            ),
            "\n",
            (f"python -m trainers run {self.path.name}", "bold"),
            id="how",
        )

    def on_mount(self) -> None:
        """Let the arrow keys scroll the text."""
        self.query_one("#recipe").focus()

    def action_train(self) -> None:
        """Start the run."""
        self.dismiss(True)
