"""Break lines as Chinese readers expect: between ideographs, never before closing or after opening punctuation."""

from collections.abc import Iterator

from rich.cells import cell_len

NEVER_FIRST = frozenset("，。；：？！、）》」』】〉”’…·,.;:?!)]}%")
"""Closing marks stay with the character before them (GB/T 15834-2011, 5.1)."""
NEVER_LAST = frozenset("（《「『【〈“‘([{")
"""Opening marks stay with the character after them (GB/T 15834-2011, 5.1)."""

Span = tuple[int, int]


def wrap(text: str, width: int, *, hang: int = 0) -> list[str]:
    """Break `text` into lines of at most `width` terminal cells; later lines of a paragraph are indented by `hang`."""
    return [" " * (hang if follows else 0) + text[start:end] for start, end, follows in _lines(text, width, hang)]


def spans(text: str, width: int) -> list[Span]:
    """Where the lines of `text` begin and end, so that styled text can be cut at the same places."""
    return [(start, end) for start, end, _ in _lines(text, width, 0)]


def _lines(text: str, width: int, hang: int) -> Iterator[tuple[int, int, bool]]:
    start = 0
    for paragraph in text.split("\n"):
        for number, (first, last) in enumerate(_fill(paragraph, width, min(hang, width - 2))):
            yield start + first, start + last, number > 0
        start += len(paragraph) + 1


def _fill(text: str, width: int, hang: int) -> Iterator[Span]:
    """Put as many pieces on a line as it takes; white space at a break disappears."""
    first = last = used = 0
    room = width
    for start, end in _pieces(text):
        size = cell_len(text[start:end])
        if text[start:end].isspace():
            used += size  # counts only if something follows on this line
            continue
        if used + size > room and last > first:
            yield first, last
            first, used, room = start, 0, width - hang
        if last <= first and start > first and used + size > room:  # indented text that leaves no room
            first, used = start, 0
        while used + size > room:
            cut = start + _fitting(text[start:end], room - used)
            yield first, cut
            first = start = cut
            used, room = 0, width - hang
            size = cell_len(text[start:end])
        used, last = used + size, end
    if last > first or not text.strip():
        yield first, max(first, last)


def _fitting(text: str, room: int) -> int:
    """How many characters fit into `room` cells; at least one, or nothing would ever end."""
    used = 0
    for number, char in enumerate(text):
        used += cell_len(char)
        if used > room:
            return max(number, 1)
    return len(text)


def _pieces(text: str) -> Iterator[Span]:
    """Spans that must not be broken: a word, an ideograph with its punctuation, a run of white space."""
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
