"""Numbers as people read them."""

import pytest

from advisor.units import MIB, count, gib, seconds


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0"), (999, "999"), (999_600, "1M"), (999_885_952, "1B"), (8_030_261_248, "8.03B")],
)
def test_counts_round_into_the_next_unit(number, said):
    assert count(number) == said


def test_small_sizes_never_read_as_nothing():
    assert (gib(3 * MIB), gib(0.6 * 2**30), gib(900)) == ("3.0 MiB", "0.6 GiB", "0.9 KiB")


def test_durations_change_their_unit():
    assert (seconds(8.25), seconds(720), seconds(3 * 3600 + 299)) == ("8.2 s", "12 min", "3 h 05 min")
