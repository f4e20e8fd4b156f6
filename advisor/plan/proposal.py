"""A plan that is proposed: the plan, the reason for each field, its estimate, and what was conceded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from advisor.estimate.terms import Estimate, Fit, Interval
from recipes.plan import Plan

if TYPE_CHECKING:  # the reasons of an advice start without the model of time
    from advisor.estimate.time import Timing, Untimed


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a field has its value: a message id with `{name}` places, the values, and a source id."""

    text: str
    values: Mapping[str, str | int | float]
    source: str = ""

    def __str__(self) -> str:
        return self.text.format(**self.values)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan and the reason for each field (by dotted key, such as "schedule.learning_rate")."""

    plan: Plan
    why: Mapping[str, Reason]
    estimate: Estimate
    timing: "Timing | Untimed"
    """Training time and what it costs, or why it is not known."""
    fit: Fit
    concessions: tuple[Reason, ...] = ()

    @property
    def seconds(self) -> Interval | None:
        """Training time, or None where the rates of the hardware are not known."""
        return self.timing.total
