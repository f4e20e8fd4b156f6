"""What a run took and gave back, in order: pure data, from which peaks and an allocator's behaviour are worked out."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

BLOCK: Final = 512
"""CUDA's caching allocator hands out multiples of it (`kMinBlockSize` in c10/core/CachingDeviceAllocator.h)."""


@dataclass(frozen=True, slots=True)
class Took:
    """Storage number `storage` came to life: its size in bytes as asked for, and the operation that made it."""

    storage: int
    bytes: int
    by: str


@dataclass(frozen=True, slots=True)
class Gave:
    """Storage number `storage` was freed."""

    storage: int


@dataclass(frozen=True, slots=True)
class Entered:
    """From here on, what happens happens in `place`."""

    place: Hashable


Trace = Sequence[Took | Gave | Entered]


def rounded(size: int) -> int:
    """Bytes that the allocator counts for a request of `size`."""
    return -(-size // BLOCK) * BLOCK


def peaks(trace: Trace) -> dict[Hashable, int]:
    """The most bytes that were alive in each place, what came before it included."""
    sizes: dict[int, int] = {}
    found: dict[Hashable, int] = {}
    place: Hashable = None
    now = 0
    for event in trace:
        match event:
            case Took(storage=storage, bytes=size):
                sizes[storage] = rounded(size)
                now += sizes[storage]
            case Gave(storage=storage):
                now -= sizes.pop(storage)
                continue
            case Entered(place=entered):
                place = entered
        found[place] = max(found.get(place, 0), now)
    found.pop(None, None)
    return found


def alive(trace: Trace, place: Hashable) -> Iterator[tuple[Hashable, Took]]:
    """What was alive when `place` was at its peak, each with the place it was taken in; the largest first."""
    until = _peak(trace, place)
    born: dict[int, tuple[Hashable, Took]] = {}
    at: Hashable = None
    for event in trace[: until + 1]:
        match event:
            case Took(storage=storage):
                born[storage] = at, event
            case Gave(storage=storage):
                del born[storage]
            case Entered(place=entered):
                at = entered
    yield from sorted(born.values(), key=lambda one: -one[1].bytes)


def _peak(trace: Trace, place: Hashable) -> int:
    """The number of the event after which most was alive in `place`."""
    sizes: dict[int, int] = {}
    at: Hashable = None
    now, most, found = 0, -1, 0
    for number, event in enumerate(trace):
        match event:
            case Took(storage=storage, bytes=size):
                sizes[storage] = rounded(size)
                now += sizes[storage]
            case Gave(storage=storage):
                now -= sizes.pop(storage)
            case Entered(place=entered):
                at = entered
        if at == place and now > most:
            most, found = now, number
    return found
