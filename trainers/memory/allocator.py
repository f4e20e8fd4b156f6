"""What CUDA's caching allocator holds of the driver (`reserved`) while a trace is played to it.

Sizes and rules as in c10/cuda/CUDACachingAllocator.cpp of torch 2.13, for one stream: requests are rounded to 512
bytes, small and large ones live in pools of their own, the smallest free block that fits is taken and split where
enough is left, neighbours that are free are merged. With expandable segments each pool is one range of addresses that
grows page by page at its end; without them a segment is one call of cudaMalloc and blocks never cross segments.
Nothing goes back to the driver: it would only near the end of the card, so this is what an empty card would show.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from trainers.memory.trace import BLOCK, Entered, Gave, Took, Trace, rounded

SMALL_SIZE: Final = 2**20
"""Requests up to this come from the small pool (`kSmallSize`)."""
SMALL_SEGMENT: Final = 2 * 2**20
"""What the small pool asks the driver for (`kSmallBuffer`); also the page of its expandable segment."""
LARGE_SEGMENT: Final = 20 * 2**20
"""What requests below `MIN_LARGE` ask the driver for (`kLargeBuffer`); also the page of the large expandable one."""
MIN_LARGE: Final = 10 * 2**20
"""Larger requests get a segment of their own size (`kMinLargeAlloc`)."""
ROUND_LARGE: Final = 2 * 2**20
"""To which such a segment is rounded (`kRoundLarge`)."""


@dataclass(slots=True, eq=False)
class Block:
    """A piece of a segment, with its neighbours in it."""

    start: int
    bytes: int
    segment: int
    before: "Block | None" = None
    after: "Block | None" = None
    free: bool = True


@dataclass(slots=True)
class Pool:
    """Blocks of one size class; the free ones are kept by size, then address."""

    is_small: bool
    free: list[tuple[int, int, int]] = field(default_factory=list)
    """(bytes, segment, start) of each free block."""
    blocks: dict[tuple[int, int], Block] = field(default_factory=dict)
    """Each free block by (segment, start)."""
    end: Block | None = None
    """The last block of an expandable segment."""
    mapped: int = 0
    """Bytes of an expandable segment that are backed by pages."""

    def put(self, block: Block) -> None:
        """Make a block free, and one with its free neighbours."""
        for other in (block.before, block.after):
            if other is not None and other.free:
                self._drop(other)
                block = _merged(other, block) if other is block.before else _merged(block, other)
                if self.end is other or (self.end is not None and self.end.start == block.start):
                    self.end = block
        block.free = True
        insort(self.free, (block.bytes, block.segment, block.start))
        self.blocks[block.segment, block.start] = block

    def fit(self, size: int) -> Block | None:
        """Take the smallest free block of at least `size`; of several the one with the lowest address."""
        at = bisect_left(self.free, (size, -1, -1))
        if at == len(self.free):
            return None
        _, segment, start = self.free[at]
        block = self.blocks[segment, start]
        self._drop(block)
        return block

    def _drop(self, block: Block) -> None:
        del self.free[bisect_left(self.free, (block.bytes, block.segment, block.start))]
        del self.blocks[block.segment, block.start]
        block.free = False


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes at their highest: handed out, and held of the driver."""

    allocated: int
    reserved: int


class CachingAllocator:
    """One device, one stream."""

    def __init__(self, *, expandable: bool) -> None:
        self._expandable = expandable
        self._pools = (Pool(is_small=True), Pool(is_small=False))
        self._used: dict[int, tuple[Pool, Block]] = {}
        self._segments = 0
        self.allocated = 0
        self.reserved = 0

    def take(self, storage: int, size: int) -> None:
        """Hand out memory for a storage; none for an empty one."""
        if size == 0:
            return
        size = rounded(size)
        pool = self._pools[size > SMALL_SIZE]
        block = pool.fit(size)
        if block is None:
            block = self._grown(pool, size) if self._expandable else self._segment(size)
        self._split(pool, block, size)
        self._used[storage] = pool, block
        self.allocated += block.bytes

    def give(self, storage: int) -> None:
        """Take the memory of a storage back; it stays reserved."""
        if storage in self._used:
            pool, block = self._used.pop(storage)
            self.allocated -= block.bytes
            pool.put(block)

    def _segment(self, size: int) -> Block:
        """A new segment from the driver."""
        if size <= SMALL_SIZE:
            whole = SMALL_SEGMENT
        elif size < MIN_LARGE:
            whole = LARGE_SEGMENT
        else:
            whole = -(-size // ROUND_LARGE) * ROUND_LARGE
        self._segments += 1
        self.reserved += whole
        return Block(0, whole, self._segments, free=False)

    def _grown(self, pool: Pool, size: int) -> Block:
        """A block at the end of the pool's range: what is free there, and as many pages as are missing."""
        page = SMALL_SEGMENT if pool.is_small else LARGE_SEGMENT
        last = pool.end if pool.end is not None and pool.end.free else None
        missing = size - (last.bytes if last else 0)
        more = -(-missing // page) * page
        new = Block(pool.mapped, more, int(pool.is_small), before=pool.end, free=False)
        if pool.end is not None:
            pool.end.after = new
        pool.mapped += more
        self.reserved += more
        if last is not None:
            pool._drop(last)
            new = _merged(last, new)
        pool.end = new
        return new

    def _split(self, pool: Pool, block: Block, size: int) -> None:
        """Give what is left of a block back to the pool where that is enough to be of use."""
        left = block.bytes - size
        small_or_grown = pool.is_small or self._expandable
        if left < BLOCK or (not small_or_grown and left <= SMALL_SIZE):
            return
        rest = Block(block.start + size, left, block.segment, before=block, after=block.after)
        if block.after is not None:
            block.after.before = rest
        block.bytes, block.after = size, rest
        if pool.end is block:
            pool.end = rest
        pool.put(rest)


def _merged(first: Block, second: Block) -> Block:
    """Two neighbours as one block."""
    first.bytes += second.bytes
    first.after = second.after
    if second.after is not None:
        second.after.before = first
    first.free = False
    return first


def replay(trace: Trace, *, expandable: bool) -> Held:
    """Play a trace to an empty allocator."""
    return max(_levels(trace, expandable), key=lambda held: held.reserved, default=Held(0, 0))


def _levels(trace: Trace, expandable: bool) -> Iterator[Held]:
    """The highest level of `allocated` so far, and what is reserved, after each taking."""
    allocator, most = CachingAllocator(expandable=expandable), 0
    for event in trace:
        match event:
            case Took(storage=storage, bytes=size):
                allocator.take(storage, size)
                most = max(most, allocator.allocated)
                yield Held(most, allocator.reserved)
            case Gave(storage=storage):
                allocator.give(storage)
            case Entered():
                pass
