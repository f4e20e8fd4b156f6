"""Running text that is broken correctly in both languages, and never read as markup."""

from collections.abc import Iterable

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

from advisor.text import inert
from advisor.tui.widgets.cjk import spans

Styled = str | tuple[str, str]
"""Plain text, or text with a style such as "bold" or "$text-warning"."""


def content(*parts: Styled) -> Content:
    """Join pieces of text of any origin; control characters become visible, markup stays what it is: text."""
    pairs = (part if isinstance(part, tuple) else (part, "") for part in parts)
    return Content.assemble(*((inert(text), style) for text, style in pairs))


class Prose(Widget):
    """Text that re-wraps with its width. Unlike a Static it knows where Chinese lines may end."""

    DEFAULT_CSS = "Prose { height: auto; width: 1fr; }"

    def __init__(self, *parts: Styled, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._content = content(*parts)

    def say(self, *parts: Styled) -> None:
        """Show another text."""
        self._content = content(*parts)
        self.refresh(layout=True)

    @property
    def plain(self) -> str:
        """What stands there, without styles."""
        return self._content.plain

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many rows as there are lines at this width."""
        return len(spans(self._content.plain, max(width, 2)))

    def render(self) -> Content:
        """Cut the styled text where its plain text breaks."""
        width = max(self.content_size.width, 2)
        return join(self._content[start:end] for start, end in spans(self._content.plain, width))


def join(lines: Iterable[Content]) -> Content:
    """Put styled lines below each other."""
    return Content("\n").join(lines)
