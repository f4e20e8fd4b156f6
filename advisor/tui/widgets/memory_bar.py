"""How much of the card a way of training needs: a mark, a word, a bar and a number, so that no state is colour alone."""

from dataclasses import dataclass

from rich.cells import set_cell_size
from textual.content import Content
from textual.widget import Widget

from advisor.estimate.terms import Fit
from advisor.show.estimate import METHODS
from advisor.text import N_, t
from advisor.units import gib

MARKS: dict[Fit, tuple[str, str, str]] = {
    "fits": ("✓", N_("fits"), "$text-success"),
    "likely": ("✓", N_("likely"), "$text-success"),
    "unlikely": ("!", N_("tight"), "$text-warning"),
    "does_not_fit": ("✗", N_("too big"), "$text-error"),
}
EDGE = "|"
WORD, LABEL, NUMBER = 8, 14, 10
"""Cells of the word, the name of the method and the number."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a method (named as `METHODS` does) needs, in bytes."""

    method: str
    fit: Fit
    bytes: int


def bar(share: float, width: int) -> str:
    """`share` of `width` cells in ASCII; what is over the edge fills it."""
    full = min(max(round(share * width), 0), width)
    return "#" * full + "." * (width - full)


def against(need: int, capacity: int, whole: int, width: int) -> str:
    """A bar of `width` cells for `whole` bytes; `EDGE` is the end of the card, and what is past it does not fit."""
    cells = bar(need / whole if whole else 0.0, width)
    if need and cells.startswith("."):
        cells = "#" + cells[1:]  # little is not nothing
    edge = min(round(capacity / whole * width), width - 1) if whole else 0
    return cells[:edge] + EDGE + cells[edge + 1 :]


def row(need: Need, capacity: int, whole: int, width: int) -> Content:
    """One line of exactly the cells that are there."""
    mark, word, style = MARKS[need.fit]
    room = max(width - 2 - WORD - LABEL - NUMBER, 4)
    return Content.assemble(
        (f"{mark} {set_cell_size(t(word), WORD)}", style),
        set_cell_size(t(METHODS.get(need.method, need.method)), LABEL),
        (against(need.bytes, capacity, whole, room), style),
        gib(need.bytes).rjust(NUMBER),
    )


class MemoryBars(Widget):
    """One bar below the other, all against the same card."""

    DEFAULT_CSS = "MemoryBars { height: auto; width: 1fr; }"

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._needs: tuple[Need, ...] = ()
        self._capacity = 0

    def show(self, needs: tuple[Need, ...], capacity_bytes: int) -> None:
        """Draw these needs against this many bytes."""
        self._needs, self._capacity = needs, capacity_bytes
        self.refresh(layout=True)

    def render(self) -> Content:
        """Draw a line for each need, all on one scale."""
        width = self.content_size.width
        whole = max([self._capacity, *(need.bytes for need in self._needs)])
        return Content("\n").join(row(need, self._capacity, whole, width) for need in self._needs)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """One row each."""
        return max(len(self._needs), 1)
