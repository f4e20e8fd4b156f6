"""Rows of unequal length as batches: sorted by length, padded on the left, so that all of them end together.

Shapes: B rows, T tokens of the longest row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_ROWS = 64
"""More rows at once gain little speed and make progress coarse."""


@dataclass(frozen=True, slots=True)
class Padded:
    """`ids_BT` and `mask_BT` (1 on tokens, 0 on padding), both int64; positions count tokens only."""

    ids_BT: Tensor
    mask_BT: Tensor

    @property
    def positions_BT(self) -> Tensor:
        """Each token's place in its own row, from 0; int64."""
        return (self.mask_BT.cumsum(1) - 1).clamp(min=0)


def by_length(lengths: Sequence[int], budget_tokens: int) -> Iterator[list[int]]:
    """Indices of rows in batches of similar length, the longest first.

    Rows times the longest row stay within the budget, or the batch is a single row. The longest come first, so
    that memory runs out at the start or not at all.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        full = batch and (len(batch) + 1) * lengths[batch[0]] > budget_tokens
        if full or len(batch) == MAX_ROWS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def left(rows: Sequence[Sequence[int]], device: torch.device) -> Padded:
    """Pad on the left. The padding id is 0: it is masked by position, never found by its value."""
    longest = max(map(len, rows))
    ids = [[0] * (longest - len(row)) + list(row) for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return Padded(torch.tensor(ids, device=device), torch.tensor(mask, device=device))
