"""Break lines as Chinese readers expect: between ideographs, never before closing or after opening punctuation."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len

NEVER_FIRST = frozenset("，。；：？！、）》」』】〉”’…·,.;:?!)]}%")
"""Closing marks stay with the character before them (GB/T 15834-2011, 5.1)."""
NEVER_LAST = frozenset("（《「『【〈“‘([{")
"""Opening marks stay with the character after them (GB/T 15834-2011, 5.1)."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Line:
    """Where a line begins and ends in its text, and by how many cells it is indented."""

    start: int
    end: int
    indent: int


def wrap(text: str, width: int, *, hang: int = 0) -> list[str]:
    """Break `text` into lines of at most `width` terminal cells; later lines of a paragraph hang by `hang` cells."""
    return [" " * line.indent + text[line.start : line.end] for line in lines(text, width, hang=hang)]


def lines(text: str, width: int, *, hang: int = 0) -> list[Line]:
    """Where `wrap` cuts, so that styled text can be cut at the same places."""
    found, start, room = [], 0, max(width, 2)
    hang = min(hang, room - 2)
    for paragraph in text.split("\n"):
        for number, (first, last) in enumerate(_fill(paragraph, room, hang)):
            found.append(Line(start + first, start + last, hang if number else 0))
        start += len(paragraph) + 1
    return found


def _fill(text: str, width: int, hang: int) -> Iterator[Span]:
    """Put as many pieces on a line as it takes; white space at a break disappears."""
    first = last = used = 0
    room = width
    for start, end in _pieces(text, width - hang):
        size = cell_len(text[start:end])
        blank = text[start:end].isspace()
        if not blank and used + size > room:
            if last > first:
                yield first, last
                room = width - hang
            first, used = start, 0
        used += size
        last = last if blank else end  # white space counts only if something follows on its line
    if last > first or not text.strip():
        yield first, max(first, last)


def _pieces(text: str, width: int) -> Iterator[Span]:
    """Spans to be kept whole: a word, an ideograph with its punctuation, white space; wider than `width` they are cut."""
    for start, end in _whole_pieces(text):
        rest = start
        while cell_len(text[rest:end]) > width:
            cut = rest + _fitting(text[rest:end], width)
            yield rest, cut
            rest = cut
        yield rest, end


def _fitting(text: str, room: int) -> int:
    """How many characters fit into `room` cells; at least one, or nothing would ever end."""
    used = 0
    for number, char in enumerate(text):
        used += cell_len(char)
        if used > room:
            return max(number, 1)
    return len(text)


def _whole_pieces(text: str) -> Iterator[Span]:
    start = 0
    for at in range(1, len(text)):
        if _may_break(text[at - 1], text[at]):
            yield start, at
            start = at
    if text:
        yield start, len(text)


def _may_break(before: str, after: str) -> bool:
    if before.isspace() != after.isspace():
        return True
    if before.isspace() or after in NEVER_FIRST or before in NEVER_LAST:
        return False
    return cell_len(before) == 2 or cell_len(after) == 2
