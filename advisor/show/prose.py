"""Sentences as lines of at most 80 cells, in either language."""

import textwrap
from typing import Final

from rich.cells import cell_len, chop_cells

WIDTH: Final = 80


def wrapped(words: str, indent: int = 0, hang: int = 0) -> list[str]:
    """Lines of at most `WIDTH` cells; later lines hang. Chinese has no spaces to break at and is cut by cells."""
    first, rest = " " * indent, " " * (indent + hang)
    if cell_len(words) == len(words):
        return textwrap.wrap(
            words, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
        ) or [""]
    pieces = chop_cells(words, WIDTH - indent - hang)
    return [(rest if number else first) + piece for number, piece in enumerate(pieces)]
