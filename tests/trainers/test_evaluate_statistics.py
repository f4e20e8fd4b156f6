"""Intervals and tests against published and hand-worked numbers."""

from math import ceil

import pytest

from trainers.evaluate.statistics import (
    bootstrap,
    churn,
    detectable_mean,
    detectable_rate,
    effective,
    mcnemar,
    paired_rates,
    rows_needed,
    wilson,
)


@pytest.mark.parametrize(
    ("n", "low", "high"), [(50, 78.6, 95.7), (100, 82.6, 94.5), (200, 85.1, 93.4), (400, 86.7, 92.6)]
)
def test_the_wilson_interval_of_ninety_per_cent_narrows_with_the_rows(n, low, high):
    interval = [round(100 * end, 1) for end in wilson(0.9, n)]

    assert interval == [low, high]


def test_the_wilson_interval_stays_open_at_both_ends_of_the_scale():
    assert wilson(1.0, 100) == pytest.approx((0.9630, 1.0), abs=1e-4)
    assert wilson(0.0, 100) == pytest.approx((0.0, 0.0370), abs=1e-4)


@pytest.mark.parametrize(
    ("difference", "disagreement", "rows"),
    [
        (0.20, 0.3, 57),
        (0.20, 0.4, 77),
        (0.15, 0.2, 68),
        (0.15, 0.3, 103),
        (0.15, 0.4, 138),
        (0.10, 0.2, 155),
        (0.10, 0.3, 234),
        (0.10, 0.4, 312),
        (0.05, 0.1, 312),
        (0.05, 0.2, 626),
        (0.05, 0.3, 940),
        (0.05, 0.4, 1254),
        (0.03, 0.1, 870),
        (0.03, 0.2, 1742),
        (0.03, 0.3, 2614),
        (0.03, 0.4, 3487),
        (0.02, 0.1, 1960),
        (0.02, 0.2, 3923),
        (0.02, 0.3, 5885),
        (0.02, 0.4, 7847),
    ],
)
def test_the_rows_that_a_difference_needs_are_those_of_the_power_table(difference, disagreement, rows):
    assert ceil(rows_needed(difference, disagreement)) == rows


@pytest.mark.parametrize(("rows", "disagreement", "difference"), [(155, 0.2, 0.10), (312, 0.1, 0.05)])
def test_the_detectable_difference_reads_the_power_table_backwards(rows, disagreement, difference):
    assert detectable_rate(rows, disagreement - difference) == pytest.approx(difference, abs=5e-4)


def test_only_wins_and_losses_that_cancel_are_churn():
    assert churn([1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]) == 0.5
    assert churn([1.0] * 4, [0.0] * 4) == 0.0


def test_three_rows_detect_nothing_short_of_everything():
    assert detectable_rate(3, 1.0) == 1.0


def test_six_wins_without_a_loss_are_the_smallest_significant_sweep():
    assert mcnemar(6, 0) == mcnemar(0, 6) == pytest.approx(0.03125)
    assert mcnemar(5, 0) == pytest.approx(0.0625)


def test_equal_arms_have_no_evidence_against_them():
    assert mcnemar(0, 0) == mcnemar(4, 4) == 1.0


def test_the_paired_interval_is_newcombes():
    # Newcombe (1998), Statistics in Medicine 17:2635, table II, method 10: a=36 b=12 c=2 d=0 -> 0.0569 to 0.3404
    ours = [1.0] * 36 + [1.0] * 12 + [0.0] * 2
    theirs = [1.0] * 36 + [0.0] * 12 + [1.0] * 2

    spread = paired_rates(ours, theirs, range(50))

    assert (spread.value, spread.low, spread.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=1e-4)


def test_two_perfect_arms_differ_by_nothing_but_not_with_certainty():
    spread = paired_rates([1.0] * 100, [1.0] * 100, range(100))

    assert (spread.value, spread.p_value) == (0.0, 1.0)
    assert spread.low == pytest.approx(-0.037, abs=1e-3)
    assert spread.high == pytest.approx(0.037, abs=1e-3)


def test_ten_copies_of_six_rows_are_no_more_evidence_than_six():
    copies = [group for group in range(6) for _ in range(10)]

    spread = paired_rates([1.0] * 60, [0.0] * 60, copies)

    assert effective(copies) == 6
    assert spread.p_value == pytest.approx(0.03125)
    assert spread.low == pytest.approx(paired_rates([1.0] * 6, [0.0] * 6, range(6)).low)


def test_the_bootstrap_interval_agrees_with_the_normal_one_where_that_is_right():
    values = [0.4, 0.6] * 100  # mean 0.5, standard error 0.1 / sqrt(200)

    spread = bootstrap(values, range(200))

    assert spread.value == pytest.approx(0.5)
    assert (spread.low, spread.high) == pytest.approx((0.5 - 0.0139, 0.5 + 0.0139), abs=0.002)
    assert detectable_mean(spread.error) == pytest.approx(2.80 * 0.1 / 200**0.5, rel=0.1)


def test_the_bootstrap_gives_the_same_interval_every_time():
    values = [i % 7 / 7 for i in range(50)]

    assert bootstrap(values, range(50)) == bootstrap(values, range(50))


def test_copies_of_a_row_do_not_narrow_the_bootstrap():
    values = [i % 5 / 4 for i in range(20)]
    copied = [value for value in values for _ in range(10)]

    alone = bootstrap(values, range(20))
    clustered = bootstrap(copied, [group for group in range(20) for _ in range(10)])
    pretended = bootstrap(copied, range(200))

    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low)
    assert pretended.high - pretended.low < 0.5 * (alone.high - alone.low)


def test_one_group_tells_nothing_about_the_spread():
    spread = bootstrap([0.2, 0.4], ["book", "book"])

    assert (spread.low, spread.high, spread.p_value) == (0.2, 0.4, 1.0)


def test_a_row_counts_as_much_as_its_weight():
    assert bootstrap([1.0, 0.0], ["a", "b"], [3.0, 1.0]).value == 0.75


def test_a_gain_on_every_row_is_significant_and_a_wash_is_not():
    assert bootstrap([0.1, 0.2] * 30, range(60)).p_value < 0.002
    assert bootstrap([0.1, -0.1] * 30, range(60)).p_value > 0.5
