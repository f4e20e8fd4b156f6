"""The closed form beside a dry run, moment by moment. Where they differ, both stand there: nothing is averaged."""

from collections.abc import Iterator, Mapping
from typing import Final

from rich.cells import cell_len, set_cell_size

from advisor import units
from advisor.show.estimate import MOMENTS
from advisor.text import N_, t

AGREE: Final = 0.03
"""A larger difference of the peaks is a warning: one of the two has the physics wrong."""
WORDS: Final = {**MOMENTS, "forward": N_("a block of the forward")}
COLUMN: Final = 14


def apart(closed: int, dry: int) -> bool:
    """Whether the two peaks contradict each other."""
    return abs(closed / dry - 1) > AGREE


def text(closed: Mapping[str, int], dry: Mapping[str, int], reserved: tuple[int, int] | None = None) -> str:
    """Both tables beside each other; `closed` may be empty where no formula knows the model."""
    return "\n".join(_lines(closed, dry, reserved))


def _lines(
    closed: Mapping[str, int], dry: Mapping[str, int], reserved: tuple[int, int] | None
) -> Iterator[str]:
    yield t(N_("the trainer's own steps, without weights (dry run), beside the closed form:"))
    names = [name for name in WORDS if name in dry or name in closed]
    width = max(cell_len(t(WORDS[name])) for name in names) + 2
    heads = (t(N_("closed form")), t(N_("dry run")), t(N_("difference")))
    yield f"    {set_cell_size('', width)}{''.join(_right(head) for head in heads)}"
    for name in names:
        mark = "*" if name == max(dry, key=lambda one: dry[one]) else " "
        row = (_size(closed, name), _size(dry, name), _difference(closed.get(name), dry.get(name)))
        yield f"  {mark} {set_cell_size(t(WORDS[name]), width)}{''.join(_right(cell) for cell in row)}"
    peak = max(dry.values())
    yield t(N_("the peak of the dry run: {peak}"), peak=units.gib(peak))
    if reserved is not None:
        with_, without = (units.gib(size) for size in reserved)
        words = N_("the allocator would hold {expandable} with expandable segments, {segments} without")
        yield t(words, expandable=with_, segments=without)
    if closed and apart(max(closed.values()), peak):
        off = f"{max(closed.values()) / peak - 1:+.1%}"
        yield t(
            N_("warning: the closed form is {off} off the dry run; plan with the larger one, and measure"),
            off=off,
        )


def _size(found: Mapping[str, int], name: str) -> str:
    return units.gib(found[name]) if name in found else "-"


def _difference(closed: int | None, dry: int | None) -> str:
    return "-" if closed is None or dry is None else f"{closed / dry - 1:+.1%}"


def _right(cell: str) -> str:
    return " " * max(1, COLUMN - cell_len(cell)) + cell
