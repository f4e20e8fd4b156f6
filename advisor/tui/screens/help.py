"""What the screen below is for, and every key that works on it."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget

from advisor.text import N_, t
from advisor.tui.screens.page import Key, Page
from advisor.tui.widgets.panel import Panel
from advisor.tui.widgets.prose import Prose

EVERYWHERE: tuple[Key, ...] = (
    ("1-9", N_("choose an entry of a list by its number")),
    ("up, down, j, k", N_("move in a list, or scroll")),
    ("tab", N_("go to the next field or list")),
    ("enter", N_("choose, or go on")),
    ("f8", N_("speak English or Chinese")),
    ("f1, ?", N_("this help")),
    ("ctrl+q", N_("leave the program; a run goes on")),
)


class HelpScreen(Page[bool]):
    """Show a guide and keys; any way out leads back to the screen below, which is as it was."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "back", N_("Back"), show=False)]

    def __init__(self, guide: str, keys: Sequence[Key]) -> None:
        super().__init__()
        self.guide, self.told = guide, tuple(keys)

    def title_text(self) -> str:
        """Name the page."""
        return t(N_("Help"))

    def body(self) -> Iterator[Widget]:
        """Yield the guide of the screen below, its keys, and those of all screens."""
        with VerticalScroll(id="guide"):
            if self.guide:
                yield Panel(t(N_("What to do here")), [Prose(t(self.guide))])
            yield Panel(t(N_("Keys of this screen")), _rows(self.told))
            yield Panel(t(N_("Keys of every screen")), _rows(EVERYWHERE))

    def on_mount(self) -> None:
        """Let the arrow keys scroll."""
        self.query_one("#guide").focus()


def _rows(keys: Sequence[Key]) -> Iterator[Widget]:
    width = max((cell_len(key) for key, _ in keys), default=0) + 2
    for key, means in keys:
        yield Prose((key.ljust(width), "bold"), t(means), hang=width)
