"""The learning rate as a pure function of the step."""

import math
from collections.abc import Callable
from typing import assert_never

from recipes.plan import Schedule


def learning_rate(schedule: Schedule, steps: int) -> Callable[[int], float]:
    """The rate of each step, from 1 to `steps`: up to the peak in a straight line, then as `decay` says."""
    warm = math.ceil(schedule.warmup_share * steps)

    def rate(step: int) -> float:
        if step <= warm:
            return schedule.learning_rate * step / warm
        gone = (step - 1 - warm) / max(1, steps - warm)
        return schedule.learning_rate * _left(schedule, gone)

    return rate


def _left(schedule: Schedule, gone: float) -> float:
    """The share of the peak rate when `gone` of the decay lies behind; never zero in the last step."""
    match schedule.decay:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * gone))
        case "linear":
            return 1 - gone
        case "constant":
            return 1.0
        case _:
            assert_never(schedule.decay)
