"""A line of braille dots: the loss over the steps, redrawn in milliseconds however long the run is."""

import math
from collections.abc import Sequence
from itertools import pairwise

from textual.content import Content
from textual.widget import Widget

Point = tuple[float, float]
"""Step and loss."""

LABEL = 8
"""Cells left of the plot for its largest and smallest value."""
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille cell (Unicode 2800-28FF), by row and column of its 2 x 4 dots."""


def columns(points: Sequence[Point], width: int) -> list[float | None]:
    """Mean loss of each of `width` equal stretches between the first and the last step; None where there is none."""
    if not points:
        return [None] * width
    first, last = points[0][0], points[-1][0]
    scale = (width - 1) / (last - first) if last > first else 0.0
    sums, counts = [0.0] * width, [0] * width
    for step, loss in points:
        if math.isfinite(loss):
            at = min(round((step - first) * scale), width - 1)
            sums[at] += loss
            counts[at] += 1
    return [total / count if count else None for total, count in zip(sums, counts, strict=True)]


def draw(points: Sequence[Point], width: int, height: int) -> list[str]:
    """Draw `points` on `height` rows of `width` braille cells, the largest loss at the top."""
    heights = columns(points, 2 * width)
    known = [value for value in heights if value is not None]
    cells = [[0] * width for _ in range(height)]
    if known:
        low, high = min(known), max(known)
        rows = 4 * height - 1
        scale = rows / (high - low) if high > low else 0.0
        marks = [(x, round((high - v) * scale)) for x, v in enumerate(heights) if v is not None]
        for (x, y), (next_x, next_y) in pairwise([*marks, marks[-1]]):
            for dot_x, dot_y in _line(x, y, next_x, next_y):
                cells[dot_y // 4][dot_x // 2] |= _DOTS[dot_y % 4][dot_x % 2]
    return ["".join(chr(0x2800 + bits) if bits else " " for bits in row) for row in cells]


def _line(x: int, y: int, end_x: int, end_y: int) -> list[tuple[int, int]]:
    """The dots between two marks, as many as the longer side has."""
    count = max(abs(end_x - x), abs(end_y - y), 1)
    return [
        (x + round(i * (end_x - x) / count), y + round(i * (end_y - y) / count)) for i in range(count + 1)
    ]


class LossPlot(Widget):
    """The loss so far. It shows what it is given and knows nothing of runs."""

    DEFAULT_CSS = "LossPlot { height: 1fr; width: 1fr; min-height: 4; }"

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._points: Sequence[Point] = ()

    def show(self, points: Sequence[Point]) -> None:
        """Draw these points from now on."""
        self._points = points
        self.refresh()

    def render(self) -> Content:
        """Draw the line with its largest and smallest value at the left, its first and last step below."""
        width, height = self.content_size.width - LABEL, self.content_size.height - 1
        if width < 4 or height < 1 or not self._points:
            return Content("")
        known = [value for value in columns(self._points, 2 * width) if value is not None]
        labels = {height - 1: min(known), 0: max(known)} if known else {}
        rows = draw(self._points, width, height)
        drawn = [
            Content.assemble(
                (f"{labels[at]:>{LABEL - 1}.4g} " if at in labels else " " * LABEL, "dim"),
                (row, "$text-primary"),
            )
            for at, row in enumerate(rows)
        ]
        return Content("\n").join([*drawn, Content.styled(" " * LABEL + self._steps(width), "dim")])

    def _steps(self, width: int) -> str:
        """The first and the last step, below the ends of the line."""
        first, last = f"{self._points[0][0]:.0f}", f"{self._points[-1][0]:.0f}"
        return first + last.rjust(width - len(first)) if len(first) + len(last) < width else ""
