"""What optimizers keep and need, as data."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from advisor.errors import UnknownName
from recipes.words import N_

PIECE: Final = 2**24
"""Weights that the native exact AdamW has in fp32 at one time."""


@dataclass(frozen=True, slots=True)
class Optimizer:
    """What an optimizer keeps between steps and needs within one; see the head of `optimizers.toml` for units."""

    name: str
    source: str
    words: tuple[str, ...] = ()
    state_copies: int = 0
    state_bytes: float = 0.0
    step_copies: int = 0
    largest_16: int = 0
    largest_32: int = 0
    piece_16: int = 0
    paged: bool = False

    def state(self, weight_bytes: int) -> float:
        """Bytes on the device for each trained weight that has `weight_bytes` itself."""
        return self.state_copies * weight_bytes + self.state_bytes

    def step(self, weights: int, largest: int, weight_bytes: int) -> float:
        """Bytes alive in the step alone, for so many trained weights, of which the largest tensor has `largest`."""
        each = self.largest_16 if weight_bytes == 2 else self.largest_32
        piece = self.piece_16 * min(largest, PIECE)
        return self.step_copies * weights * weight_bytes + each * largest + piece


@cache
def optimizers() -> Mapping[str, Optimizer]:
    """Every optimizer, by name."""
    rows = tomllib.loads(files("advisor.estimate").joinpath("optimizers.toml").read_text(encoding="utf-8"))
    found = [Optimizer(**{**row, "words": tuple(row["words"])}) for row in rows["optimizer"]]
    return MappingProxyType({one.name: one for one in found})


@cache
def optimizer(name: str) -> Optimizer:
    """Find an optimizer by its name or by the word of another system for it.

    Raises:
        UnknownName: There is none.
    """
    wanted = name.casefold()
    found = next((one for one in optimizers().values() if wanted in (one.name, *one.words)), None)
    if found is None:
        raise UnknownName(N_("optimizer"), name, optimizers(), listing="advisor estimate --help")
    return found
