"""Who is better: the tuned arm against the best other one, score by score, and what follows from it."""

from collections.abc import Sequence
from typing import Final, Literal

from recipes.report import Difference, Verdict
from recipes.rows import NLL
from trainers.evaluate import statistics
from trainers.evaluate.outcome import TOKENS, Outcome
from trainers.evaluate.scores import MEANS

RIVALS: Final[tuple[Literal["base", "prompt", "few_shot"], ...]] = ("base", "prompt", "few_shot")
"""What a person would do instead of tuning, the cheapest first: a tie goes to it. `context` is no rival: it is given
the right passage, which nobody has when the question comes."""
ALPHA: Final = 1 - statistics.LEVEL


def compare(outcomes: Sequence[Outcome], primary: str) -> tuple[Difference, ...]:
    """Tuned minus the best rival on each score of both, on the same rows; the primary score comes first.

    Nothing is compared if no arm was tuned.
    """
    tuned = next((outcome for outcome in outcomes if outcome.arm.name == "tuned"), None)
    rivals = [outcome for name in RIVALS for outcome in outcomes if outcome.arm.name == name]
    if tuned is None or not rivals:
        return ()
    shared = [name for name in tuned.per_row if name != TOKENS and all(name in r.per_row for r in rivals)]
    ordered = sorted(shared, key=lambda name: name != primary)
    return tuple(_difference(name, tuned, rivals) for name in ordered)


def verdict(differences: Sequence[Difference], primary: str) -> Verdict:
    """Whether tuning helped on the primary score.

    Yes or no only where the interval leaves zero out and the test agrees; otherwise these rows cannot tell.
    """
    found = next((difference for difference in differences if difference.score == primary), None)
    if found is None:
        return "not_trained"
    if found.low <= 0 <= found.high or found.p_value >= ALPHA:
        return "cannot_tell"
    return "helped" if (found.value > 0) != (primary == NLL) else "hurt"


def _difference(score: str, tuned: Outcome, rivals: Sequence[Outcome]) -> Difference:
    sign = -1 if score == NLL else 1
    best = max(rivals, key=lambda rival: sign * _mean(rival, score))
    ours, theirs = tuned.per_row[score], best.per_row[score]
    if len(ours) != len(theirs) or tuned.groups != best.groups:
        raise ValueError("arms that were judged on different rows cannot be compared")
    if score in MEANS:
        weights = tuned.per_row[TOKENS] if score == NLL else ()
        gains = [a - b for a, b in zip(ours, theirs, strict=True)]
        spread = statistics.bootstrap(gains, tuned.groups, weights)
        detectable = statistics.detectable_mean(spread.error)
    else:
        spread = statistics.paired_rates(ours, theirs, tuned.groups)
        n = statistics.effective(tuned.groups)
        detectable = statistics.detectable_rate(n, statistics.churn(ours, theirs))
    name = next(rival for rival in RIVALS if rival == best.arm.name)
    return Difference(
        score=score,
        against=name,
        value=spread.value,
        low=spread.low,
        high=spread.high,
        p_value=spread.p_value,
        test="bootstrap" if score in MEANS else "mcnemar",
        detectable=detectable,
    )


def _mean(outcome: Outcome, score: str) -> float:
    if score == NLL:
        return outcome.arm.nll.value if outcome.arm.nll else 0.0
    return outcome.arm.scores[score].value
