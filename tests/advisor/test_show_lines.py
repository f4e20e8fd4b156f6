"""The line breaker: no word is lost, no line is too long, no line begins or ends with the wrong mark."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from advisor.show.lines import NEVER_FIRST, NEVER_LAST, lines, wrap

texts = st.text(
    alphabet=st.one_of(
        st.sampled_from("微调模型的数据。，；：？！（）“”《》 \n"),
        st.sampled_from("abcdefghij 0123456789-,.()[] "),
        st.characters(exclude_categories=["Cs", "Cc"]),
    ),
    max_size=120,
)


@settings(deadline=None)
@given(texts, st.integers(4, 60), st.integers(0, 4))
def test_no_line_is_wider_than_the_room_it_has(text, width, hang):
    broken = wrap(text, width, hang=hang)

    assert max(map(cell_len, broken)) <= width


@settings(deadline=None)
@given(texts, st.integers(2, 60))
def test_breaking_loses_nothing_but_white_space(text, width):
    broken = [text[cut.start : cut.end] for cut in lines(text, width)]

    assert "".join("".join(broken).split()) == "".join(text.split())


@settings(deadline=None)
@given(st.text("微调模型数据。，；：？！）（《“”》", max_size=80), st.integers(40, 60))
def test_a_chinese_line_never_begins_with_a_closing_or_ends_with_an_opening_mark(text, width):
    pieces = [text[cut.start : cut.end] for cut in lines(text, width)]
    broken = [(a, b) for a, b in pairwise(pieces) if cell_len(a) < width - 20]

    assert not [pair for pair in broken if pair[1][0] in NEVER_FIRST or pair[0][-1] in NEVER_LAST]


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("先写提示词，再谈微调。", 10, ["先写提示", "词，再谈微", "调。"]),
        ("用 LoRA 训练", 8, ["用 LoRA", "训练"]),
        ("他说：“微调”", 8, ["他说：", "“微调”"]),
        ("keep words whole", 10, ["keep words", "whole"]),
        ("one\n\ntwo", 10, ["one", "", "two"]),
        ("abcdefghijkl", 5, ["abcde", "fghij", "kl"]),
        ("", 10, [""]),
    ],
)
def test_lines_break_where_a_reader_expects_it(text, width, expected):
    assert wrap(text, width) == expected


def test_the_lines_after_the_first_hang_below_its_text():
    assert wrap("1. a long answer", 9, hang=3) == ["1. a long", "   answer"]
