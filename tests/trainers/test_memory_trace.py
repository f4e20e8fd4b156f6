"""Traces and the allocator's model: made by hand, so that every byte is known."""

import pytest

from trainers.memory.allocator import CachingAllocator, replay
from trainers.memory.trace import Entered, Gave, Took, alive, peaks

MIB = 2**20


def took(number, size):
    return Took(number, size, f"made {number}")


def test_a_place_is_charged_with_what_came_before_it_in_blocks_of_512():
    trace = [Entered("a"), took(1, 1), took(2, 513), Gave(2), Entered("b"), took(3, 512), Gave(1), Gave(3)]

    assert peaks(trace) == {"a": 512 + 1024, "b": 512 + 512}


def test_a_place_that_takes_nothing_still_holds_what_it_found():
    assert peaks([Entered("a"), took(1, 512), Entered("b"), Gave(1), Entered("c")]) == {
        "a": 512,
        "b": 512,
        "c": 0,
    }


def test_what_is_alive_at_a_peak_is_named_with_where_it_came_from():
    trace = [Entered("a"), took(1, 512), took(2, 1024), Gave(1), Entered("b"), took(3, 4096), Gave(3)]

    assert [(place, one.storage) for place, one in alive(trace, "b")] == [("b", 3), ("a", 2)]


@pytest.mark.parametrize(
    ("size", "reserved"),
    [
        (1, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 1, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (11 * MIB, 12 * MIB),
    ],
)
def test_a_segment_has_the_size_of_its_class(size, reserved):
    assert replay([took(1, size)], expandable=False).reserved == reserved


def test_small_and_large_requests_share_no_segment():
    assert replay([took(1, 512), took(2, 2 * MIB)], expandable=False).reserved == 22 * MIB


def test_the_smallest_free_block_that_fits_is_taken():
    allocator = CachingAllocator(expandable=False)
    allocator.take(1, 40 * MIB)
    allocator.take(2, 12 * MIB)
    allocator.give(1)
    allocator.give(2)
    allocator.take(3, 12 * MIB)
    allocator.take(4, 40 * MIB)  # would not fit if the first had taken the large one

    assert allocator.reserved == 52 * MIB


def test_what_is_left_of_a_large_block_is_used_again_if_it_is_above_one_mebibyte():
    used = [took(1, 40 * MIB), Gave(1), took(2, 12 * MIB), took(3, 28 * MIB)]
    lost = [took(1, 40 * MIB), Gave(1), took(2, 39 * MIB), took(3, 1 * MIB + 512)]

    assert replay(used, expandable=False).reserved == 40 * MIB
    assert replay(lost, expandable=False).reserved == 60 * MIB


def test_free_neighbours_are_one_block_again():
    parts = [took(1, 40 * MIB), Gave(1), *(took(n, 10 * MIB) for n in (2, 3, 4, 5))]
    freed = [Gave(3), Gave(5), Gave(4), Gave(2), took(6, 40 * MIB)]

    assert replay([*parts, *freed], expandable=False).reserved == 40 * MIB


def test_segments_are_never_joined_but_pages_of_an_expandable_one_are():
    trace = [took(1, 20 * MIB), took(2, 20 * MIB), Gave(1), Gave(2), took(3, 40 * MIB)]

    assert replay(trace, expandable=False).reserved == 80 * MIB
    assert replay(trace, expandable=True).reserved == 40 * MIB


def test_an_expandable_segment_grows_by_what_is_missing_at_its_end():
    trace = [took(1, 30 * MIB), Gave(1), took(2, 50 * MIB)]

    assert replay(trace[:1], expandable=True).reserved == 40 * MIB
    assert replay(trace, expandable=True).reserved == 60 * MIB


def test_a_hole_in_the_middle_stays_reserved():
    trace = [took(1, 40 * MIB), took(2, 20 * MIB), Gave(1), took(3, 60 * MIB)]

    assert replay(trace, expandable=True).reserved == 120 * MIB


def test_nothing_goes_back_and_nothing_is_counted_twice():
    allocator = CachingAllocator(expandable=True)
    for number in range(50):
        allocator.take(number, (number % 7 + 2) * MIB)
    held = allocator.reserved
    for number in range(50):
        allocator.give(number)
    allocator.take(99, held)

    assert (allocator.reserved, allocator.allocated) == (held, held)


def test_an_empty_tensor_takes_nothing():
    assert replay([took(1, 0), Gave(1)], expandable=True).reserved == 0
