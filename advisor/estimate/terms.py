"""The values of an estimate: terms, moments, and the estimate itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

Kind = Literal["weights", "optimizer", "gradients", "stored", "transient", "workspace"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""What an addend is, in the words of a breakdown."""


@dataclass(frozen=True, slots=True)
class Term:
    """One addend: how many bytes, the arithmetic that gave them, who says so, and what kind of thing it is."""

    name: str
    bytes: int
    arithmetic: str
    source: str
    kind: Kind = "transient"


@dataclass(frozen=True, slots=True)
class Moment:
    """A candidate for the peak: what is alive at one named moment of a training step."""

    name: str
    terms: tuple[Term, ...]

    @property
    def bytes(self) -> int:
        """The sum of what is alive."""
        return sum(term.bytes for term in self.terms)


@dataclass(frozen=True, slots=True)
class Interval:
    """A low and a high value in the same unit."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Predicted peak memory of one training process, in bytes, and where it comes from.

    `allocated` is the largest moment; `reserved` and `process` are intervals (allocator, context).
    """

    moments: tuple[Moment, ...]
    reserved: Interval
    process: Interval
    profile: str
    warnings: tuple[str, ...] = ()
    tolerance: float = 0.03
    """How far `allocated` may be off, as a share of it."""

    @property
    def winner(self) -> Moment:
        """The moment that decides the peak: it says what to change."""
        return max(self.moments, key=lambda moment: moment.bytes)

    @property
    def allocated(self) -> int:
        """Peak bytes handed out by the allocator."""
        return self.winner.bytes

    @property
    def candidates(self) -> Mapping[str, int]:
        """Bytes by moment."""
        return {moment.name: moment.bytes for moment in self.moments}


Fit = Literal["fits", "likely", "unlikely", "does_not_fit"]
