"""What all screens share: a title, a place for the body, keys named in the reader's language, a smallest size."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, TypeVar

from textual import events
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer

from advisor.text import N_, t
from advisor.tui.widgets.prose import Prose

SMALLEST = (60, 18)
"""Columns and rows below which no screen is readable."""

Result = TypeVar("Result")
Key = tuple[str, str]
"""A key as it is written on the keyboard, and what it does (a message id)."""


class Page(Screen[Result | None]):
    """A screen that waits for a person and dismisses with what they said; None means "back".

    Sub-classes give `title_text` and `body`; what depends on live values is put in by `fill`, which runs again after
    a change of language.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", N_("Back"), id="back"),
        Binding("f8", "app.language", N_("中文/EN"), id="lang"),
        Binding("l", "app.language", N_("中文/EN"), show=False, id="lang_too"),
        Binding("f1,question_mark", "app.guide", N_("Help"), key_display="?", id="help"),
    ]

    GUIDE: ClassVar[str] = ""
    """What to do on this screen, for its help; a message id."""

    rebuilding = False
    """True while the language changes: the widgets are taken down, and messages that still arrive find none."""

    def title_text(self) -> str:
        """Say where we are, in the reader's language."""
        return ""

    def body(self) -> Iterator[Widget]:
        """Yield the widgets of the body."""
        yield from ()

    def fill(self) -> None:
        """Put live values into the widgets."""

    def compose(self) -> ComposeResult:
        """Title, body, footer; and the words for a terminal that is too small."""
        yield Prose((t(N_("advisor")), "bold"), "  ", self.title_text(), id="title")
        with Vertical(id="body"):
            yield from self.body()
        yield Footer(show_command_palette=False)
        yield Prose(t(N_("This terminal is too small. Please enlarge it to at least 60 x 18.")), id="enlarge")

    def on_mount(self) -> None:
        """Fill for the first time."""
        self.fill()

    def on_resize(self, event: events.Resize) -> None:
        """Ask for a larger terminal where nothing would be readable."""
        self.set_class(event.size.width < SMALLEST[0] or event.size.height < SMALLEST[1], "-small")

    async def speak(self) -> None:
        """Say everything again, in the language that was chosen."""
        focused = self.focused.id if self.focused else None
        self.rebuilding = True
        await self.recompose()
        self.rebuilding = False
        self.fill()
        if focused:
            self.query_one(f"#{focused}").focus()
        self.refresh_bindings()

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        """The keys, with their names in the reader's language."""
        return {
            key: active._replace(binding=replace(active.binding, description=t(active.binding.description)))
            for key, active in super().active_bindings.items()
        }

    def own_keys(self) -> tuple[Key, ...]:
        """What the footer shows, but for what every screen has; not translated yet."""
        common = {"app.language", "app.guide"}
        told = {
            active.binding.action: active.binding
            for active in reversed(super().active_bindings.values())
            if active.binding.show and active.enabled and active.binding.action not in common
        }
        return tuple((self.app.get_key_display(b), b.description) for b in reversed(told.values()))

    def action_back(self) -> None:
        """Leave without an answer."""
        self.dismiss(None)
