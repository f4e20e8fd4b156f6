"""A numbered list to choose from: digits, arrows or j and k; long entries wrap and hang below their text."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from advisor.show.lines import wrap
from advisor.text import N_, inert

POINT = 3
"""Cells beside the digits of " 1. "."""


class Choices(OptionList):
    """Entries by number. Their text is data: it is wrapped by us and never read as markup."""

    DEFAULT_CSS = """
    Choices { height: auto; max-height: 100%; border: none; padding: 0; background: transparent; }
    Choices:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", N_("Choose"), id="choose"),
        Binding("j", "cursor_down", show=False),
        Binding("k", "cursor_up", show=False),
        *(Binding(str(digit), f"number({digit})", show=False) for digit in range(1, 10)),
    ]

    def __init__(self, entries: Sequence[str], *, chosen: int = 0, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._entries, self._chosen, self._wrapped_at = tuple(entries), chosen, 0

    def replace(self, entries: Sequence[str], chosen: int = 0) -> None:
        """Offer other entries."""
        self._entries, self._wrapped_at = tuple(entries), 0
        self._fill(chosen)

    def on_resize(self, event: events.Resize) -> None:
        """Wrap again, and keep the place."""
        self._fill(self._chosen if self.highlighted is None else self.highlighted)

    def _fill(self, chosen: int) -> None:
        width = self.scrollable_content_region.width
        digits = len(str(len(self._entries)))
        hang = digits + POINT
        if width < 2 * hang or width == self._wrapped_at:
            return
        self._wrapped_at = width
        self.set_options(
            Option(Content(_numbered(number, digits, wrap(inert(entry), width - 1 - hang))))
            for number, entry in enumerate(self._entries, start=1)
        )
        self.highlighted = min(chosen, len(self._entries) - 1) if self._entries else None

    def action_number(self, digit: int) -> None:
        """Choose the entry with this number."""
        if digit <= len(self._entries):
            self.highlighted = digit - 1
            self.action_select()

    def action_page_up(self) -> None:
        """Go a page up; Textual raises a KeyError when no row is visible."""
        if self.size.height:
            super().action_page_up()  # type: ignore[no-untyped-call]  # Textual gives it no types

    def action_page_down(self) -> None:
        """Go a page down; Textual raises a KeyError when no row is visible."""
        if self.size.height:
            super().action_page_down()  # type: ignore[no-untyped-call]  # Textual gives it no types


def _numbered(number: int, digits: int, rows: Sequence[str]) -> str:
    """The rows of an entry behind its number; the points of a long list stand below each other."""
    return f" {number:>{digits}}. " + ("\n" + " " * (digits + POINT)).join(rows)
