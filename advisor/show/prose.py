"""Sentences as lines of at most 80 cells, in either language."""

from typing import Final

from advisor.show.lines import wrap

WIDTH: Final = 80


def wrapped(words: str, indent: int = 0, hang: int = 0) -> list[str]:
    """Lines of at most `WIDTH` cells, indented; later lines hang."""
    return [" " * indent + line for line in wrap(words, WIDTH - indent, hang=hang)] or [""]
