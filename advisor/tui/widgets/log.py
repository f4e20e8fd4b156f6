"""A log whose lines are broken again when its width changes."""

from collections import deque

from rich.text import Text
from textual import events
from textual.widgets import RichLog

from advisor.show.lines import wrap
from advisor.text import inert

HANG = 2
"""Cells by which a long line goes on, so that one sees where the next begins."""


class Log(RichLog):
    """The newest lines of anything. Unlike a plain RichLog it never has to be scrolled sideways."""

    def __init__(self, id: str | None = None, *, kept: int = 500) -> None:
        super().__init__(id=id, markup=False, min_width=1, classes="panel")
        self._said: deque[str] = deque(maxlen=kept)
        self._broken_at = 0

    def say(self, line: str) -> None:
        """Add a line of any origin."""
        self._said.append(line)
        if self._broken_at:
            self._write(line)

    def on_resize(self, event: events.Resize) -> None:
        """Break all lines again."""
        width = self.scrollable_content_region.width
        if width != self._broken_at:
            self._broken_at = width
            self.clear()
            for line in self._said:
                self._write(line)

    def forget(self) -> None:
        """Begin anew."""
        self._said.clear()
        self.clear()

    def _write(self, line: str) -> None:
        self.write(Text("\n".join(wrap(inert(line), self._broken_at, hang=HANG))))
