"""What the unknown facts could be: possible worlds, likeliest first, without those that differ in nothing that is read."""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import sqrt
from typing import Final, cast

from advisor.decide import walk
from advisor.decide.answers import FACTS, Answers, Prior, Value, possible
from advisor.decide.beliefs import prior
from advisor.decide.constraints import standing

WORLDS: Final = 64
"""Worlds that are looked into. Likeliest first; what is left over counts as the half-known world that it is in."""
MANY_WORLDS: Final = 512
"""For choosing a question there is more time than for scoring a folder."""
SPREAD: Final = 1.28
"""Standard deviations of the two outer points that stand for a measured share: 80 % of the mass lies between."""
MEASURED: Final = ("prompt_success",)


Nearby = Callable[[str, Value], str]
"""From a fact and a value to the leaf that the answers would then lead to."""


class _Known:
    """Answers as a world knows them.

    Only known facts are attributes, so Python calls `__getattr__` for exactly the others.
    """

    def __init__(self, known: Mapping[str, Value]) -> None:
        self.__dict__.update(known)

    def __getattr__(self, fact: str) -> None:
        return None

    def get(self, fact: str) -> Value | None:
        """What was stated of `fact`, without wondering about it."""
        return cast(Value | None, self.__dict__.get(fact))


class _Curious(_Known):
    """Answers that note which facts were looked at and are not known."""

    def __init__(self, known: Mapping[str, Value]) -> None:
        super().__init__(known)
        self.__dict__["_asked"] = []

    def __getattr__(self, fact: str) -> None:
        self.__dict__["_asked"].append(fact)


class _Witness:
    """Answers that note every fact that was looked at, and apart from them what would have mattered if stated."""

    def __init__(self, answers: Answers) -> None:
        self.__dict__.update(_answers=answers, _read={}, _unstated={})

    def __getattr__(self, fact: str) -> Value | None:
        self.__dict__["_read"][fact] = None
        return cast(Value | None, getattr(self.__dict__["_answers"], fact))

    def get(self, fact: str) -> Value | None:
        """What was stated of `fact`."""
        value = cast(Answers, self.__dict__["_answers"]).get(fact)
        self.__dict__["_unstated" if value is None else "_read"][fact] = None
        return value


def primary(answers: Answers) -> str:
    """The leaf that the answers lead to, after the hard constraints."""
    return standing(walk.leaf(answers), answers)


def nearby(answers: Answers) -> Nearby:
    """Where the answers lead with one fact changed; each change is walked once, however many ask for it."""

    @cache
    def at(fact: str, value: Value) -> str:
        return primary(answers.but(**{fact: value}))

    return at


def read(answers: Answers) -> tuple[str, ...]:
    """The facts that the way to the leaf looks at, in that order: their values can change it."""
    return tuple(_witness(answers)["_read"])


def relevant(answers: Answers) -> frozenset[str]:
    """What is read, and what would have mattered had somebody stated it: no other fact can change the leaf."""
    seen = _witness(answers)
    return frozenset(seen["_read"]) | frozenset(seen["_unstated"])


def _witness(answers: Answers) -> Mapping[str, Mapping[str, None]]:
    witness = _Witness(answers)
    primary(cast(Answers, witness))
    return witness.__dict__


def _look(known: Mapping[str, Value]) -> tuple[str, Sequence[str]]:
    curious = _Curious(known)
    return primary(cast(Answers, curious)), cast(Sequence[str], curious.__dict__["_asked"])


@dataclass(frozen=True, slots=True)
class World:
    """Some unknown facts decided: their values in the order of asking, the leaf, and the probability."""

    decided: tuple[tuple[str, Value], ...]
    leaf: str
    mass: float


def worlds(
    answers: Answers, limit: int = WORLDS, *, among: Collection[str] = frozenset(FACTS)
) -> list[World]:
    """Split the unknown into worlds, always the likeliest one first, until nothing is asked or `limit` is reached.

    A measured share is split as well, within the interval that its number of test items leaves. A fact that is not
    `among` those that can still be learned stays unknown in all worlds.
    """
    known = answers.known()
    measured = {fact: points for fact, points in _measured(known).items() if fact in among}
    base = {name: value for name, value in known.items() if name not in measured}
    done: list[World] = []
    heap: list[tuple[float, int, tuple[tuple[str, Value], ...]]] = [(-1.0, 0, ())]
    count = 0
    while heap:
        mass, _, decided = heapq.heappop(heap)
        here = {**base, **dict(decided)}
        leaf, asked = _look(here)
        fact, values = next(_splits(here, [name for name in asked if name in among], measured), ("", ()))
        if not values or count >= limit:
            done.append(World(decided, leaf, -mass))
            continue
        for value, weight in values:
            count += 1
            heapq.heappush(heap, (mass * weight, count, (*decided, (fact, value))))
    return done


def _splits(
    here: Mapping[str, Value], asked: Sequence[str], measured: Mapping[str, Prior]
) -> Iterator[tuple[str, Prior]]:
    """The facts that split a world, each with the values that do not contradict it; their weights sum to 1."""
    world = _Known(here)
    for fact in asked:
        believed = measured[fact] if fact in measured else prior(fact, world)
        values = [(value, weight) for value, weight in believed if possible(here, fact, value)]
        if values:
            whole = sum(weight for _, weight in values)
            yield fact, tuple((value, weight / whole) for value, weight in values)


def _measured(known: Mapping[str, Value]) -> dict[str, Prior]:
    items = known.get("eval_set_size")
    if not isinstance(items, int) or not items:
        return {}
    return {fact: _points(cast(float, known[fact]), items) for fact in MEASURED if fact in known}


def _points(share: float, items: int) -> Prior:
    """Three points for a share measured on so many items; Agresti-Coull, so that 0 and 1 have a width too."""
    middle = (share * items + 2) / (items + 4)
    width = SPREAD * sqrt(middle * (1 - middle) / (items + 4))
    low, high = max(0.0, middle - width), min(1.0, middle + width)
    return ((share, 0.6), (min(low, share), 0.2), (max(high, share), 0.2))


def matters(found: Iterable[World]) -> frozenset[str]:
    """The facts whose answer, alone or after others, leads to another leaf in these worlds."""
    outcomes: dict[tuple[object, ...], dict[Value, set[str]]] = {}
    for world in found:
        for place, (fact, value) in enumerate(world.decided):
            branch = outcomes.setdefault((*world.decided[:place], fact), {})
            branch.setdefault(value, set()).add(world.leaf)
    return frozenset(
        str(branch[-1])
        for branch, leaves in outcomes.items()
        if len({frozenset(ends) for ends in leaves.values()}) > 1
    )
