"""Running text that is broken correctly in both languages, and never read as markup."""

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

from advisor.show.lines import lines
from advisor.text import inert

Styled = str | tuple[str, str] | Content
"""Plain text, text with a style such as "bold" or "$text-warning", or text that is styled and harmless already."""


def content(*parts: Styled) -> Content:
    """Join pieces of text of any origin; control characters become visible, markup stays what it is: text."""
    return Content.assemble(*map(_harmless, parts))


def _harmless(part: Styled) -> Content:
    match part:
        case Content():
            return part
        case (text, style):
            return Content.styled(inert(text), style)
        case str():
            return Content(inert(part))


class Prose(Widget):
    """Text that re-wraps with its width. Unlike a Static it knows where Chinese lines may end."""

    DEFAULT_CSS = "Prose { height: auto; width: 1fr; }"

    def __init__(
        self,
        *parts: Styled,
        hang: int = 0,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._content, self._hang = content(*parts), hang

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
        return len(lines(self._content.plain, width, hang=self._hang))

    def render(self) -> Content:
        """Cut the styled text where its plain text breaks."""
        cuts = lines(self._content.plain, self.content_size.width, hang=self._hang)
        return Content("\n").join(
            Content.assemble(" " * cut.indent, self._content[cut.start : cut.end]) for cut in cuts
        )
