"""Two facts that change the advice only together: looked for where no single fact leads to another family of leaves."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from advisor.decide.advice import Flip, FlipPair
from advisor.decide.answers import FACTS, Answers, Fact, Value
from advisor.decide.beliefs import prior
from advisor.decide.flips import (
    COUNTS,
    LEAST_MINUTES,
    MISTAKEN,
    NUMBERS,
    SHARES,
    by_family,
    fitting,
    flip,
    smallest,
)
from advisor.decide.leaves import family
from advisor.decide.worlds import nearby, primary, read

TRIED: Final = 300
"""Pairs that are looked into: a change of one fact beside any change of a second."""
SHOWN: Final = 3

_GRIDS: Final = {"share": SHARES, "count": COUNTS, "number": NUMBERS}


def flip_pairs(
    a: Answers, leaf: str, looked_at: Sequence[str], single: Sequence[Flip]
) -> tuple[FlipPair, ...]:
    """The pairs of changes that lead to another family, the likeliest for their price first; else as `flips`.

    Args:
        a: The answers.
        leaf: The primary leaf that they lead to.
        looked_at: The facts that the way to it looks at.
        single: The flips of one fact; where one of them reaches another family no pair is needed.
    """
    if any(family(one.primary) != family(leaf) for one in single):
        return ()
    found: dict[frozenset[str], FlipPair] = {}
    for first, value, second in islice(_likeliest(a, looked_at), TRIED):
        facts = frozenset((first, second))
        if facts not in found and (pair := _pair(a, leaf, first, value, second)):
            found[facts] = pair
            if len(found) == SHOWN:
                break
    return tuple(found.values())


def _likeliest(a: Answers, looked_at: Sequence[str]) -> Iterator[tuple[str, Value, str]]:
    """A fact, a value that it could have instead, and a fact that is then looked at: by plausibility a minute."""
    rows = [
        (-weight * _doubt(a, second) / _minutes(first, second), first, value, second)
        for first in looked_at
        for value, weight in _instead(a, FACTS[first])
        for second in read(a.but(**{first: value}))
        if second != first
    ]
    rows.sort(key=lambda row: row[0])
    return ((first, value, second) for _, first, value, second in rows)


def _instead(a: Answers, fact: Fact) -> Iterator[tuple[Value, float]]:
    """The other values that `fact` could have, each with what we believe of it."""
    now = a.get(fact.name)
    believed = dict(prior(fact.name, a.but(**{fact.name: None})))
    for value in fitting(a, fact.name, _values(fact)):
        if value != now:
            yield value, _doubt(a, fact.name) * believed.get(value, 0.0)


def _values(fact: Fact) -> Sequence[Value]:
    """Values that stand for the domain of a fact; of numbers, those that a belief is about."""
    if fact.kind == "yes_no":
        return (True, False)
    return fact.choices or [value for value, _ in fact.prior] or _GRIDS.get(fact.kind, ())


def _doubt(a: Answers, fact: str) -> float:
    return 1.0 if a.get(fact) is None else MISTAKEN


def _minutes(*facts: str) -> int:
    return max(sum(FACTS[fact].minutes for fact in facts), LEAST_MINUTES)


def _pair(a: Answers, leaf: str, first: str, value: Value, second: str) -> FlipPair | None:
    """The smallest change of `second` beside the first one, and then the smallest of `first` beside that."""
    changed = a.but(**{first: value})
    ours = smallest(changed, FACTS[second], leaf, by_family(nearby(changed), leaf))
    if ours is None:
        return None
    changed = a.but(**{second: ours[1]})
    other = smallest(changed, FACTS[first], leaf, by_family(nearby(changed), leaf))
    if other is None:
        return None
    together = primary(a.but(**{first: other[1], second: ours[1]}))
    return flip(first, (*other[:2], together)), flip(second, (*ours[:2], together))
