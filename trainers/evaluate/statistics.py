"""How sure we may be: intervals of a rate, tests of a difference, and the rows that a difference needs. Standard library.

Rows of one group (one conversation, one document) are not independent, so a group is the unit of everything here:
Wilson counts effective rows, McNemar lets each group vote once, and the bootstrap draws whole groups.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist
from typing import Final

LEVEL: Final = 0.95
Z: Final = NormalDist().inv_cdf(0.5 + LEVEL / 2)
"""Two-sided 95 %: 1.96."""
POWER: Final = NormalDist().inv_cdf(0.80)
"""80 % power: 0.84."""
RESAMPLES: Final = 2_000
"""Enough for the second decimal of a 95 % interval (Efron and Tibshirani, 1993, advise 1,000 or more)."""
SEED: Final = 20_261
"""The same rows give the same interval, on every machine."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A value with its 95 % interval, the p-value against zero, and its standard error."""

    value: float
    low: float
    high: float
    p_value: float
    error: float


def effective(groups: Sequence[Hashable]) -> float:
    """How many independent rows these are worth if rows of a group always agree (Kish, 1965).

    With one row a group this is the number of rows; it is the cautious end of what clustering can do.
    """
    sizes = Counter(groups).values()
    return sum(sizes) ** 2 / sum(size**2 for size in sizes)


def wilson(rate: float, n: float) -> tuple[float, float]:
    """95 % interval of a rate seen in `n` independent rows (Wilson, 1927); never leaves [0, 1].

    >>> [round(100 * end, 1) for end in wilson(0.9, 100)]
    [82.6, 94.5]
    """
    middle = (rate + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2))
    return max(0.0, min(rate, middle - half)), min(1.0, max(rate, middle + half))


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided exact p-value of a paired comparison: a fair coin for each pair that differs (McNemar, 1947).

    >>> mcnemar(6, 0)
    0.03125
    """
    pairs = wins + losses
    tail = sum(comb(pairs, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * (tail / (1 << pairs)))


def paired_rates(ours: Sequence[float], theirs: Sequence[float], groups: Sequence[Hashable]) -> Spread:
    """The difference of two rates on the same rows: exact McNemar, and Newcombe's paired interval.

    The interval is method 10 of Newcombe (1998): Wilson limits of both rates, squared and added, less what the
    pairing explains. Unlike a bootstrap it does not collapse where every row of an arm is right.
    """
    n = effective(groups)
    a, b = mean(ours), mean(theirs)
    (a_low, a_high), (b_low, b_high) = wilson(a, n), wilson(b, n)
    phi = _correlation(ours, theirs)
    down = sqrt(max(0.0, (a - a_low) ** 2 - 2 * phi * (a - a_low) * (b_high - b) + (b_high - b) ** 2))
    up = sqrt(max(0.0, (a_high - a) ** 2 - 2 * phi * (a_high - a) * (b - b_low) + (b - b_low) ** 2))
    votes = _votes(ours, theirs, groups)
    p_value = mcnemar(sum(vote > 0 for vote in votes), sum(vote < 0 for vote in votes))
    return Spread(a - b, a - b - down, a - b + up, p_value, error=(down + up) / (2 * Z))


def bootstrap(values: Sequence[float], groups: Sequence[Hashable], weights: Sequence[float] = ()) -> Spread:
    """The (weighted) mean of `values` with a percentile interval over resampled groups.

    For a paired difference, `values` are the differences by row. The p-value is twice the smaller share of
    resampled means on either side of zero. One group alone shows no spread: then the range of the rows stands
    in for the interval, and the p-value is 1.
    """
    weights = weights or (1.0,) * len(values)
    clusters: dict[Hashable, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for value, weight, group in zip(values, weights, groups, strict=True):
        clusters[group][0] += value * weight
        clusters[group][1] += weight
    pairs = list(clusters.values())
    centre = _ratio(pairs)
    if len(pairs) < 2:
        return Spread(centre, min(values), max(values), 1.0, error=max(values) - min(values))
    draw = random.Random(SEED)
    means = sorted(_ratio(draw.choices(pairs, k=len(pairs))) for _ in range(RESAMPLES))
    tail = round(RESAMPLES * (1 - LEVEL) / 2)
    below, above = sum(m <= 0 for m in means), sum(m >= 0 for m in means)
    p_value = min(1.0, 2 * (min(below, above) + 1) / (RESAMPLES + 1))
    spread = mean(means)
    error = sqrt(mean([(m - spread) ** 2 for m in means]))
    return Spread(centre, min(centre, means[tail]), max(centre, means[-tail - 1]), p_value, error)


def rows_needed(difference: float, disagreement: float) -> float:
    """Rows for 80 % power at alpha = 0.05, when two arms disagree on this share of the rows (Connor, 1987).

    >>> round(rows_needed(0.10, 0.2), 1)
    154.4
    """
    half = Z * sqrt(disagreement) + POWER * sqrt(disagreement - difference**2)
    return (half / difference) ** 2


def detectable_rate(n: float, churn: float) -> float:
    """The smallest difference of two rates that `n` rows show with 80 % power, found by bisection.

    `churn` is the share of rows on which the arms differ without a net gain. A difference adds to it: an arm
    that is better by a tenth differs on a tenth of the rows at least.
    """
    low, high = 0.0, 1.0
    if rows_needed(high, high) > n:
        return 1.0
    for _ in range(50):
        middle = (low + high) / 2
        enough = rows_needed(middle, min(1.0, churn + middle)) <= n
        low, high = (low, middle) if enough else (middle, high)
    return high


def detectable_mean(error: float) -> float:
    """The smallest difference of two means that shows with 80 % power, given the standard error of theirs."""
    return (Z + POWER) * error


def mean(values: Sequence[float]) -> float:
    """The plain mean."""
    return sum(values) / len(values)


def churn(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The share of rows on which two arms differ beyond their net difference: wins and losses that cancel."""
    wins = sum(a > b for a, b in zip(ours, theirs, strict=True))
    losses = sum(a < b for a, b in zip(ours, theirs, strict=True))
    return 2 * min(wins, losses) / len(ours)


def _ratio(pairs: Sequence[Sequence[float]]) -> float:
    total = sum(pair[1] for pair in pairs)
    return sum(pair[0] for pair in pairs) / total if total else 0.0


def _votes(ours: Sequence[float], theirs: Sequence[float], groups: Sequence[Hashable]) -> list[float]:
    """The net difference of each group: positive where ours won."""
    net: dict[Hashable, float] = defaultdict(float)
    for a, b, group in zip(ours, theirs, groups, strict=True):
        net[group] += a - b
    return list(net.values())


def _correlation(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Newcombe's phi, with his correction for a positive one; 0 where an arm is always right or always wrong."""
    n = len(ours)
    both = sum(a > 0 and b > 0 for a, b in zip(ours, theirs, strict=True))
    right_a, right_b = round(sum(ours)), round(sum(theirs))
    a_only, b_only = right_a - both, right_b - both
    neither = n - both - a_only - b_only
    spread = sqrt(right_a * (n - right_a) * right_b * (n - right_b))
    if spread == 0:
        return 0.0
    cross = both * neither - a_only * b_only
    return (max(cross - n / 2, 0.0) if cross > 0 else cross) / spread
