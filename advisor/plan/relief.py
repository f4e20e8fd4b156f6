"""One step down for a run that ran out of memory although its estimate said that it fits: one knob, and the reason.

The knobs are the concessions of `advisor.plan.fit`, in their order. Of those that need less by the estimate, the
first that makes up for what was missing is turned, once; if none does, the one that saves most.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Final

from advisor.catalog.models import ModelShape
from advisor.data.stats import DataStats
from advisor.errors import AdvisorError
from advisor.estimate.memory import estimate
from advisor.estimate.setup import require_known, setup
from advisor.plan.fit import CONCESSIONS
from advisor.plan.proposal import Reason
from advisor.units import gib
from recipes.plan import Plan
from recipes.words import N_

RESHAPING: Final = frozenset({"adaptation.rank", "adaptation.layers"})
"""What a checkpoint does not survive: it would hold other weights than those that move."""


@dataclass(frozen=True, slots=True)
class Relief:
    """A smaller plan; for each key that it changes, the value before and after; and the reason."""

    plan: Plan
    changes: dict[str, tuple[object, object]]
    reason: Reason


@dataclass(frozen=True, slots=True)
class Shortage:
    """What ran out of memory, and where: rows and dimensions as a plan needs them, `device` "cuda" or "cpu".

    `shape` is None where the model's dimensions are not known. `step` is the last one that was done, `saved` whether
    there is a checkpoint to go on from, `lacking_bytes` what the device had too little, if it said so.
    """

    plan: Plan
    shape: ModelShape | None
    stats: DataStats
    device: str
    step: int
    saved: bool = False
    lacking_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class _Choice:
    """A concession's plan, and what it saves by the estimate; None where nobody can say."""

    plan: Plan
    keys: tuple[str, ...]
    saving: int | None


def relieved(short: Shortage) -> Relief | None:
    """The plan with one knob turned down, or None if there is nothing left to turn."""
    choices = list(_choices(short))
    enough = (one for one in choices if one.saving is None or one.saving >= (short.lacking_bytes or 1))
    chosen = next(enough, None) or max(choices, key=lambda one: one.saving or 0, default=None)
    if chosen is None:
        return None
    changes = {key: (_value(short.plan, key), _value(chosen.plan, key)) for key in chosen.keys}
    return Relief(
        _predicted(chosen.plan, short),
        {key: (before, after) for key, (before, after) in changes.items() if before != after},
        _reason(chosen, short.step),
    )


def _choices(short: Shortage) -> Iterator[_Choice]:
    """What can be turned and saves something."""
    needs = _needs(short.plan, short)
    for concession in CONCESSIONS:
        smaller = concession.smaller(short.plan, short.stats)
        if smaller is None or (short.saved and RESHAPING.intersection(concession.keys)):
            continue
        then = _needs(smaller, short)
        saving = None if needs is None or then is None else needs - then
        if saving is None or saving > 0:
            yield _Choice(smaller, concession.keys, saving)


def _needs(plan: Plan, short: Shortage) -> int | None:
    """Bytes at the peak by the estimate; None for a model that no formula describes."""
    if short.shape is None:
        return None
    try:
        require_known(short.shape)
        return estimate(setup(plan, short.shape, short.stats, device=short.device)).allocated
    except AdvisorError:
        return None


def _predicted(plan: Plan, short: Shortage) -> Plan:
    """The plan with the estimate that belongs to it."""
    needs = _needs(plan, short)
    if plan.predicted is None or needs is None:
        return plan
    return plan.model_copy(update={"predicted": plan.predicted.model_copy(update={"peak_bytes": needs})})


def _reason(chosen: _Choice, step: int) -> Reason:
    if chosen.saving is None:
        return Reason(N_("lowered after step {step}, where memory ran out"), {"step": step}, "ours")
    return Reason(
        N_("lowered after step {step}, where memory ran out: by the estimate this saves {saving}"),
        {"step": step, "saving": gib(chosen.saving)},
        "ours",
    )


def _value(plan: Plan, key: str) -> object:
    """A value of the plan by its dotted key."""
    found: object = reduce(getattr, key.split("."), plan)
    return found
