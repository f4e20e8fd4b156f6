"""Which of several plans that fit is best: expected quality in points, less a toll for time and for cost.

Points, limits and weights are data (`ranking.toml`), shown beside every ranking. Nothing here was measured: quality is a
judgement with a source for each part, and only its order is meant (docs/adr/0017).
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import log2
from types import MappingProxyType
from typing import Any, Final

from advisor.data.stats import DataStats
from advisor.plan.proposal import Reason
from recipes.plan import Full, LastLayers, Lora, Plan
from recipes.words import N_

FULL_MARKS: Final = 100.0

TEXTS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "other_than_advised": (N_("the advice named another method"), "ours"),
        "last_layers": (N_("most blocks stay as they are"), "lora-without-regret"),
        "full_on_few_rows": (N_("all weights move for few rows: more is forgotten"), "biderman2024"),
        "adapters_on_many_rows": (N_("adapters learn less from many rows"), "biderman2024"),
        "four_bits": (N_("the base has 4 bits"), "dettmers2023"),
        "eight_bit_moments": (N_("the optimizer's moments have 8 bits"), "ours"),
        "shorter_rows": (N_("the longest rows are left out"), "data"),
        "halved_model": (N_("a smaller model"), "ours"),
    }
)
"""The words for each part of the points, and who says so."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How many points of quality a doubling of time, or of cost, is worth."""

    name: str
    time: float
    cost: float


@dataclass(frozen=True, slots=True)
class Points:
    """One part of a plan's quality: how many points, and why."""

    points: float
    why: Reason


@dataclass(frozen=True, slots=True)
class Merits:
    """What a plan is ranked by: quality in points, and time and cost in any unit that all plans share."""

    quality: float
    time: float
    cost: float


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads(files("advisor.plan").joinpath("ranking.toml").read_text(encoding="utf-8"))


@cache
def weights() -> Mapping[str, Weights]:
    """The named sets of weights; the first is the usual one."""
    return MappingProxyType({name: Weights(name, **row) for name, row in _table()["weights"].items()})


def points(
    plan: Plan, stats: DataStats, *, advised: bool, shortened: bool, halvings: float
) -> tuple[Points, ...]:
    """What a plan loses against the best one could do.

    Args:
        plan: The plan.
        stats: Its rows.
        advised: Whether its method is the one that the advice names (or none was named).
        shortened: Whether rows were left out for memory.
        halvings: How often the largest model of the list has to be halved to get this one.
    """
    known, limits = _table()["points"], _table()["limits"]
    moved, eight = plan.adaptation, plan.schedule.optimizer != "adamw"
    lora = isinstance(moved, Lora)
    times = {
        "other_than_advised": not advised,
        "last_layers": isinstance(moved, LastLayers),
        "full_on_few_rows": isinstance(moved, Full) and stats.rows < limits["few_rows"],
        "adapters_on_many_rows": lora and stats.rows >= limits["many_rows"],
        "four_bits": isinstance(moved, Lora) and moved.base == "nf4",
        "eight_bit_moments": eight,
        "shorter_rows": shortened,
        "halved_model": halvings,
    }
    return tuple(
        Points(known[name] * often, Reason(TEXTS[name][0], {}, TEXTS[name][1]))
        for name, often in times.items()
        if often
    )


def quality(parts: Sequence[Points]) -> float:
    """Full marks, less every part."""
    return FULL_MARKS + sum(part.points for part in parts)


def scores(found: Sequence[Merits], used: Weights) -> tuple[float, ...]:
    """Points of each plan after the tolls: doublings of time and cost against the least in the list."""
    if not found:
        return ()
    fastest, cheapest = min(m.time for m in found), min(m.cost for m in found)
    return tuple(
        m.quality - used.time * log2(m.time / fastest) - used.cost * log2(m.cost / cheapest) for m in found
    )


def front(found: Sequence[Merits]) -> tuple[bool, ...]:
    """For each plan whether no other is at least as good in everything and better in something (Pareto)."""
    return tuple(not any(_beats(other, one) for other in found) for one in found)


def _beats(other: Merits, one: Merits) -> bool:
    pairs = tuple(_pairs(other, one))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _pairs(other: Merits, one: Merits) -> Iterator[tuple[float, float]]:
    yield -other.quality, -one.quality
    yield other.time, one.time
    yield other.cost, one.cost
