"""The answers so far, in the order in which they were given."""

import re
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget

from advisor.text import N_, inert, t
from advisor.tui.widgets.prose import Prose

LEFT_OUT = "... > "
Answered = tuple[str, str]
"""A question and its answer, in the reader's language."""


def one_line(answers: Sequence[Answered], width: int) -> str:
    """The last questions and answers, as many as one line holds; the newest is there at any width."""
    line = ""
    for number, (question, answer) in enumerate(reversed(answers)):
        older = LEFT_OUT if number + 1 < len(answers) else ""
        entry = f"{question} {_short(answer)}"
        if number and cell_len(f"{older}{entry} > {line}") > width:
            return f"{LEFT_OUT}{line}"
        line = f"{entry} > {line}" if number else _cut(question, _short(answer), width - cell_len(older))
    return line


def _cut(question: str, answer: str, width: int) -> str:
    """A question and its answer in one line; it is the question that is cut."""
    room = width - cell_len(answer) - 1
    if cell_len(question) > room:
        question = set_cell_size(question, max(room - 3, 0)).rstrip() + "..."
    return f"{question} {answer}"


def _short(answer: str) -> str:
    """The part of an answer before its explanation."""
    return re.split("[:：,，(（]", answer, maxsplit=1)[0].strip()


class PathLine(Widget):
    """The newest answers in one line, for a terminal without room for a list."""

    DEFAULT_CSS = "PathLine { height: 1; width: 1fr; }"

    def __init__(self, answers: Sequence[Answered], id: str | None = None) -> None:
        super().__init__(id=id)
        self._answers = tuple(answers)

    def render(self) -> Content:
        """Draw what fits."""
        return Content.styled(inert(one_line(self._answers, self.content_size.width)), "dim")


class Path(VerticalScroll, can_focus=False):
    """The way that was taken. It shows what it is given."""

    def __init__(self, answers: Sequence[Answered], id: str | None = None) -> None:
        rows = [
            Prose(("✓ ", "$text-success"), (question, "bold"), f"\n  {answer}", hang=2)
            for question, answer in answers
        ]
        empty = Prose((t(N_("Your answers will stand here; Escape takes the last one back.")), "dim"))
        super().__init__(*(rows or [empty]), id=id, classes="panel")
        self.border_title = t(N_("Path so far"))

    def on_mount(self) -> None:
        """The newest answer is the interesting one."""
        self.scroll_end(animate=False)
