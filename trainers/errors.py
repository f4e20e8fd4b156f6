"""What can go wrong while training; one class per thing a caller does differently.

Failure (recipes.errors)
+-- TrainerError
    +-- MissingPackage     the [train] extra, or a part of it, is not installed
    +-- WrongLaunch        started with another number of processes, or without the device, that the recipe names
    +-- MissingWeights     a model that is not there, or not whole
    +-- PickleRefused      weights that exist only as pickles, which can run code
    +-- CodeRefused        a model that wants its own code to run
    +-- Mismatch           things that do not belong together: an adapter and its base, a tokenizer and its model
    +-- CannotMerge        an adapter that cannot become part of its base, or a place that is taken
    +-- DatasetError       rows that cannot be trained on, each with its place
    +-- ForeignDirectory   a directory that is not this run's
    +-- RunBusy            another process holds the run
    +-- Changed            a resume with another recipe, other data or another base
    +-- NoCheckpoint       checkpoints are there, and none of them is whole
    +-- SaveFailed         the disk did not take what had to be saved
    +-- OutOfMemory        the device or the computer has no memory left
    +-- PeerLost           another process of this run ended, and without it there is nothing to wait for
    +-- NotFinite          a loss or a gradient that is not a number
"""

from collections.abc import Sequence
from typing import Final

from recipes.errors import Failure, Value
from recipes.exits import Exit
from recipes.words import N_

SHOWN: Final = 20
"""More places of one kind than this help nobody; the count is still told."""

CPU_FULL: Final = "can't allocate memory"
"""How torch's allocator says on a CPU that there is none left; it has no class of its own."""


class TrainerError(Failure):
    """A problem of a run that its owner can solve: what is wrong, where, and what to do."""


class MissingPackage(TrainerError):
    """An extra ([train], unless another is named), or a part of it, is not installed."""

    exit_code = Exit.ENVIRONMENT
    code = "R0100"

    def __init__(self, package: str, extra: str = "train") -> None:
        super().__init__(
            N_("training needs the package {package}, which is not installed"),
            remedy=N_("install the extra: pip install 'finetune-advisor[{extra}]'"),
            package=package,
            extra=extra,
        )


class WrongLaunch(TrainerError):
    """Started with another number of processes, or without the device, that the recipe names."""

    exit_code = Exit.ENVIRONMENT
    code = "R0103"


class MissingWeights(TrainerError):
    """A model that is not there, or not whole."""

    exit_code = Exit.USAGE
    code = "M0100"


class PickleRefused(TrainerError):
    """Weights that exist only as pickles: opening one can run any code."""

    exit_code = Exit.REFUSED
    code = "X0101"


class CodeRefused(TrainerError):
    """A model that wants its own code to run."""

    exit_code = Exit.REFUSED
    code = "X0102"


class Mismatch(TrainerError):
    """Things that do not belong together: an adapter and its base, a tokenizer and its model."""

    exit_code = Exit.USAGE
    code = "M0104"


class CannotMerge(TrainerError):
    """An adapter that cannot become part of its base, or a place that is taken."""

    exit_code = Exit.USAGE
    code = "M0105"


class DatasetError(TrainerError):
    """Rows that cannot be trained on; `places` are the first of them, as `file:line: what is wrong`."""

    exit_code = Exit.DATASET
    code = "D0200"

    def __init__(
        self, problem: str, *, remedy: str, where: str = "", places: Sequence[str] = (), **values: Value
    ) -> None:
        self.places = tuple(places[:SHOWN])
        super().__init__(problem, remedy=remedy, where=where, **values)

    def __str__(self) -> str:
        return "\n  ".join((super().__str__(), *self.places))


class ForeignDirectory(TrainerError):
    """A directory that is not this run's."""

    exit_code = Exit.USAGE
    code = "R0104"


class RunBusy(TrainerError):
    """Another process holds the run."""

    exit_code = Exit.BUSY
    code = "R0102"


class Changed(TrainerError):
    """A resume with another recipe, other data or another base; `changes` names each difference."""

    exit_code = Exit.USAGE
    code = "R0200"

    def __init__(self, changes: Sequence[str], *, where: str) -> None:
        self.changes = tuple(changes)
        shown = "; ".join(self.changes[:SHOWN])
        more = len(self.changes) - SHOWN
        super().__init__(
            N_("this run was started with something else: {changes}"),
            remedy=N_("give it what it had, start a new run, or go on all the same with --accept-changes"),
            where=where,
            changes=f"{shown}; +{more}" if more > 0 else shown,
        )


class NoCheckpoint(TrainerError):
    """Checkpoints are there, and none of them is whole."""

    exit_code = Exit.ENVIRONMENT
    code = "R0301"


class SaveFailed(TrainerError):
    """The disk did not take what had to be saved; what was saved before is untouched."""

    exit_code = Exit.ENVIRONMENT
    code = "R0302"


class OutOfMemory(TrainerError):
    """The device or the computer has no memory left."""

    exit_code = Exit.ENVIRONMENT
    code = "T0402"


class PeerLost(TrainerError):
    """Another process of this run ended: whoever waits for it waits for ever."""

    exit_code = Exit.ENVIRONMENT
    code = "R0402"


class NotFinite(TrainerError):
    """A loss or a gradient that is not a number: stopped before it reached a weight."""

    exit_code = Exit.GUARD
    code = "T0401"


class Followed(Exception):
    """The main process failed in work of its own; the others end too, with its exit code, and say nothing."""

    def __init__(self, exit_code: int) -> None:
        self.exit = exit_code
        super().__init__(f"the main process ends with {exit_code}")


def exit_code(reason: Exception) -> int:
    """What a process that ends for this reason exits with."""
    match reason:
        case Failure(exit_code=code):
            return int(code)
        case _:
            return int(getattr(reason, "exit", Exit.BUG))
