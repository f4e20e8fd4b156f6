"""A box with a title."""

from collections.abc import Iterable

from textual.containers import Vertical
from textual.widget import Widget


class Panel(Vertical):
    """A box as high as what is in it."""

    DEFAULT_CSS = "Panel { height: auto; }"

    def __init__(self, title: str, children: Iterable[Widget], *, id: str | None = None) -> None:
        super().__init__(*children, id=id, classes="panel")
        self.border_title = title
