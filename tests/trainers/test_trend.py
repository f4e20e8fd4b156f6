"""A loss that rises well above its own minimum is told: early, once, and not when it only scatters."""

import math
import random

import pytest

from trainers.trend import RISEN_STEPS, Trend


def told(losses):
    trend = Trend()
    for step, loss in enumerate(losses, start=1):
        trend = trend.after(step, loss)
    return trend.risen_at


def falling(chance, steps=400, scatter=0.15, floor=0.8):
    return [(floor + 2.5 * math.exp(-n / 60)) * (1 + scatter * chance.gauss(0, 1)) for n in range(steps)]


def test_fifty_healthy_curves_raise_no_alarm():
    alarms = [told(falling(random.Random(seed), scatter=0.05 + seed / 200)) for seed in range(50)]

    assert sum(map(bool, alarms)) <= 1


def test_fifty_bad_curves_are_told_within_fifty_steps():
    delays = []
    for seed in range(50):
        chance = random.Random(seed)
        at = chance.randint(60, 300)
        rise = chance.choice([lambda n: 0.05 * math.exp(n / 8), lambda n: 0.1 * n, lambda n: 6.0])
        losses = [loss + (rise(n - at) if n >= at else 0) for n, loss in enumerate(falling(chance))]
        found = [step for step in told([min(loss, 12) for loss in losses]) if step > at]
        delays += [found[0] - at] if found else []

    assert len(delays) >= 48
    assert sum(delay <= 50 for delay in delays) >= 48


def test_one_wild_batch_is_no_trend():
    losses = falling(random.Random(0))
    losses[200] += 5

    assert told(losses) == ()


def test_a_rise_is_told_once_and_the_next_one_again():
    calm, wild = [1.0] * 60, [3.0] * 60

    assert told([*calm, *wild]) == (60 + RISEN_STEPS,) or len(told([*calm, *wild])) == 1
    assert len(told([*calm, *wild, *calm, *wild])) == 2


def test_it_goes_on_from_where_it_was():
    losses, trend = [1.0] * 30 + [3.0] * 30, Trend()
    for step, loss in enumerate(losses, start=1):
        trend = trend.after(step, loss)
    again = Trend(**{name: getattr(trend, name) for name in Trend.__dataclass_fields__})

    assert again.after(61, 3.0) == trend.after(61, 3.0)


@pytest.mark.parametrize("loss", [0.0, 1e-9, 50.0])
def test_a_loss_that_stays_has_no_rise(loss):
    assert told([loss] * 200) == ()
