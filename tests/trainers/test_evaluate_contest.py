"""Who is better, and whether these rows can tell."""

import json

import pytest

from recipes.report import Arm, Rate
from trainers.evaluate import compare, from_json, speed, to_json, verdict
from trainers.evaluate.outcome import Outcome


def outcome(name, exact, nll=(), fields=(), groups=None):
    """An outcome with these values by row."""
    n = len(exact)
    tokens = (4.0,) * n
    per_row = {"exact": tuple(exact), "nll": tuple(nll or [1.0] * n), "nll_tokens": tokens}
    per_row |= {"fields": tuple(fields)} if fields else {}

    def rate(values):
        return Rate(value=sum(values) / n, low=0.0, high=1.0, n=n)

    scores = {score: rate(per_row[score]) for score in per_row if score in ("exact", "fields")}
    arm = Arm(name=name, scores=scores, nll=rate(per_row["nll"]), prompt_tokens=9.0, seconds=1.0)
    return Outcome(arm, per_row, tuple(groups or map(str, range(n))), forward_tokens=300, forward_seconds=2.0)


def right(count, n=100):
    return [1.0] * count + [0.0] * (n - count)


def test_the_tuned_arm_meets_the_best_of_the_others():
    arms = [outcome("base", right(10)), outcome("prompt", right(40)), outcome("few_shot", right(30))]

    first = compare([*arms, outcome("tuned", right(90))], "exact")[0]

    assert (first.score, first.against, first.test) == ("exact", "prompt", "mcnemar")
    assert first.value == pytest.approx(0.5)
    assert first.low > 0.35
    assert first.p_value == pytest.approx(2 / 2**50)


def test_the_oracle_with_the_right_passage_is_no_rival():
    arms = [outcome("base", right(10)), outcome("context", right(100)), outcome("tuned", right(90))]

    assert compare(arms, "exact")[0].against == "base"


def test_a_tie_goes_to_the_cheaper_arm():
    arms = [outcome("few_shot", right(50)), outcome("base", right(50)), outcome("tuned", right(90))]

    assert compare(arms, "exact")[0].against == "base"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (0, 100, "helped"),
        (100, 0, "hurt"),
        (50, 50, "cannot_tell"),
        (50, 55, "cannot_tell"),
        (50, 56, "helped"),
    ],
)
def test_the_verdict_needs_an_interval_that_leaves_zero_out(before, after, said):
    differences = compare([outcome("base", right(before)), outcome("tuned", right(after))], "exact")

    assert verdict(differences, "exact") == said


def test_without_a_tuned_arm_nothing_is_compared():
    differences = compare([outcome("base", right(50)), outcome("prompt", right(60))], "exact")

    assert (differences, verdict(differences, "exact")) == ((), "not_trained")


def test_a_lower_likelihood_loss_is_the_better_one():
    base = outcome("base", right(0), nll=[3.0, 2.0] * 50)
    tuned = outcome("tuned", right(0), nll=[1.0, 1.5] * 50)

    differences = compare([base, tuned], "nll")

    assert differences[0].score == "nll"
    assert differences[0].value == pytest.approx(-1.25)
    assert differences[0].test == "bootstrap"
    assert (verdict(differences, "nll"), verdict(compare([tuned, base], "exact"), "exact")) == (
        "helped",
        "cannot_tell",
    )


def test_shares_are_compared_by_bootstrap():
    base = outcome("base", right(0), fields=[0.5, 0.75] * 50)
    tuned = outcome("tuned", right(0), fields=[0.75, 1.0] * 50)

    found = {difference.score: difference for difference in compare([base, tuned], "fields")}

    assert next(iter(found)) == "fields"
    assert (found["fields"].test, found["fields"].value) == ("bootstrap", pytest.approx(0.25))


def test_arms_that_were_judged_on_different_rows_are_not_compared():
    with pytest.raises(ValueError, match="different rows"):
        compare([outcome("base", right(5, 10)), outcome("tuned", right(5, 9))], "exact")


def test_an_outcome_survives_the_disk():
    before = outcome("base", right(3, 7), fields=[0.1] * 7)

    assert from_json(json.loads(json.dumps(to_json(before)))) == before


def test_the_speed_is_that_of_all_arms_together():
    assert speed((outcome("base", right(1)), outcome("prompt", right(1)))) == pytest.approx(150.0)
    assert speed(()) is None
