"""What can go wrong on the advising side; one class per thing a caller does differently.

Failure (recipes.errors)
+-- AdvisorError
    +-- UnknownName       a fact, model, GPU or command that we do not know, with the nearest ones
    +-- BadValue          a value outside its domain
    +-- DatasetError      data that cannot be read, or in which no example is left
    +-- NothingFits       no plan fits the hardware, whatever we concede
    +-- MissingPackage    an extra that is not installed
    +-- NoRoom            disk, permission, a directory that is not ours
    +-- Refused           not without consent
    +-- Busy              another run holds the directory
"""

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

from recipes.errors import Failure, Problem
from recipes.exits import Exit
from recipes.words import N_

NEAR: Final = 0.6
"""Likeness (Ratcliff and Obershelp) from which a name is worth suggesting; the default of difflib."""


class AdvisorError(Failure):
    """A problem the reader can solve: what is wrong, and what to do about it."""


class UnknownName(AdvisorError):
    """A name that is not in the list, with the nearest ones that are."""

    code = "P0101"
    worded = frozenset({"kind"})

    def __init__(self, kind: str, name: str, known: Iterable[str], *, listing: str) -> None:
        near = nearest(name, known)
        super().__init__(
            N_("there is no {kind} called {name!r}"),
            remedy=N_("did you mean {near}?") if near else N_("see the list: {listing}"),
            kind=kind,
            name=name,
            near=", ".join(near),
            listing=listing,
        )


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The names of `known` that `name` may be a slip for, the likeliest first.

    A long name is also compared by its words, so that "4089" finds "RTX 4090" and "Qwen3-9B" finds "Qwen/Qwen3-8B".
    """
    wanted = name.casefold()

    def likeness(candidate: str) -> float:
        whole = candidate.casefold()
        words = whole.replace("/", " ").split()
        return max(SequenceMatcher(None, wanted, part).ratio() for part in (whole, *words))

    ranked = sorted(known, key=lambda candidate: (-likeness(candidate), candidate))
    return [candidate for candidate in ranked[:most] if likeness(candidate) >= NEAR]


class BadValue(AdvisorError):
    """A value outside its domain."""

    code = "P0102"


class DatasetError(AdvisorError):
    """Data that cannot be read, or in which no example is left."""

    exit_code = Exit.DATASET
    code = "D0100"


class NothingFits(AdvisorError):
    """No plan fits the hardware, whatever we concede; `changes` are the nearest ones that would help, computed."""

    exit_code = Exit.ENVIRONMENT
    code = "E0100"

    def __init__(
        self, problem: str, *, remedy: str, changes: tuple[Problem, ...] = (), **values: str | float
    ) -> None:
        self.changes = changes
        super().__init__(problem, remedy=remedy, where="", **values)


class MissingPackage(AdvisorError):
    """An extra that is not installed."""

    exit_code = Exit.ENVIRONMENT
    code = "R0100"


class NoRoom(AdvisorError):
    """The disk, a permission or a directory stands in the way."""

    exit_code = Exit.ENVIRONMENT
    code = "R0101"


class Refused(AdvisorError):
    """Not without consent, or not at all: pickled weights, foreign code."""

    exit_code = Exit.REFUSED
    code = "X0100"


class Busy(AdvisorError):
    """Another run holds the directory; try again later."""

    exit_code = Exit.BUSY
    code = "R0102"
