"""Where the loss goes: smoothed, held against its own minimum, so that a training that falls apart is told early.

It warns and never stops: a run can recover, and the last checkpoints are there. What it remembers is part of a
checkpoint, so a resumed run warns where the first one would have.
"""

from dataclasses import dataclass, replace
from typing import Final

KEPT: Final = 0.9
"""Of the smoothed loss at each step: it remembers about ten steps, as many as a person would look at."""
SETTLING_STEPS: Final = 20
"""Before so many steps the first losses, which fall steeply, are still in the mean; no minimum counts there."""
RISE_NATS: Final = 0.3
"""A rise below this makes a model 1.35 times less sure of a token: many healthy trainings wander as far."""
RISE_SPREADS: Final = 2.5
"""... nor one within the scatter of the losses: 2.5 mean distances are about two standard deviations of one loss, and
eight of the smoothed one. On 1,000 random healthy curves no alarm, on 1,000 bad ones 95 % within 50 steps."""
RISEN_STEPS: Final = 10
"""For so long without a break, so that no single wild batch is a trend."""


@dataclass(frozen=True, slots=True)
class Trend:
    """The losses so far; nats a token.

    `mean` and `spread` (mean distance from the mean) are smoothed; `lowest` is the smallest mean, and
    `lowest_spread` what the spread was then. `above` counts the latest steps that stood well above it. `risen_at`
    are the steps at which it was told.
    """

    steps: int = 0
    mean: float = 0.0
    spread: float = 0.0
    lowest: float | None = None
    lowest_spread: float = 0.0
    above: int = 0
    risen_at: tuple[int, ...] = ()

    @property
    def limit(self) -> float | None:
        """A smoothed loss above this is well above the minimum."""
        if self.lowest is None:
            return None
        return self.lowest + max(RISE_NATS, RISE_SPREADS * self.lowest_spread)

    def after(self, step: int, loss: float) -> "Trend":
        """The trend with one more step; `risen_at` has it if it is one to tell, once for each rise."""
        steps = self.steps + 1
        kept = KEPT * (1 - KEPT ** (steps - 1)) / (1 - KEPT**steps)  # unbiased from the first step on
        mean = kept * self.mean + (1 - kept) * loss
        spread = kept * self.spread + (1 - kept) * abs(loss - (self.mean if self.steps else loss))
        now = replace(self, steps=steps, mean=mean, spread=spread)
        if steps < SETTLING_STEPS:
            return now
        if self.lowest is None or mean < self.lowest:
            return replace(now, lowest=mean, lowest_spread=spread, above=0)
        above = self.above + 1 if mean > (self.limit or mean) else 0
        told = (*self.risen_at, step) if above == RISEN_STEPS else self.risen_at
        return replace(now, above=above, risen_at=told)
