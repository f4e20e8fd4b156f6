"""The answers so far, in the order in which they were given."""

import re
from collections.abc import Sequence

from textual.containers import VerticalScroll

from advisor.text import N_, t
from advisor.tui.widgets.prose import Prose

Answered = tuple[str, str]
"""A short question and its answer, in the reader's language."""


def one_line(answers: Sequence[Answered], *, last: int = 3) -> str:
    """The last answers as one line, for a terminal without room for a list."""
    shown = " > ".join(_short(answer) for _, answer in answers[-last:])
    return f"... > {shown}" if len(answers) > last else shown


def _short(answer: str) -> str:
    """The part of an answer before its explanation."""
    return re.split("[:：,，(（]", answer, maxsplit=1)[0]


class Path(VerticalScroll, can_focus=False):
    """The way that was taken. It shows what it is given."""

    def __init__(self, answers: Sequence[Answered], id: str | None = None) -> None:
        rows = [
            Prose(("✓ ", "$text-success"), (question, "bold"), f"\n{answer}", hang=2)
            for question, answer in answers
        ]
        super().__init__(*rows, id=id, classes="panel")
        self.border_title = t(N_("Path so far"))

    def on_mount(self) -> None:
        """The newest answer is the interesting one."""
        self.scroll_end(animate=False)
