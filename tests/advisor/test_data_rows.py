"""Rows are split by group, written whole, counted honestly, checked; and data tells facts, but guesses none."""

import errno
import json
import os
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipes_plans import prose

from advisor.data import checks, store
from advisor.data.convert import normalised, prompt_key
from advisor.data.facts import facts_of
from advisor.data.split import default_size, split
from advisor.data.tokens import answer_tokens, estimated, stats, tokenizer
from advisor.errors import DatasetError, NoRoom
from recipes.exits import Exit
from recipes.rows import Row, Source, Turn


def _row(prompt, answer, line=1, group=None):
    turns = [Turn(role="user", content=prompt), Turn(role="assistant", content=answer)]
    source = Source(file="a.jsonl", line=line, format="chat", group=group or prompt_key(turns[:-1]))
    return Row(messages=tuple(turns), source=source)


def _rows(count, answer="It is {}."):
    return tuple(_row(f"What is number {i}?", answer.format(i), i + 1) for i in range(count))


def _codes(rows):
    return {finding.code for finding in checks.check(rows)}


# --- split


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), min_size=12, max_size=80), st.integers(0, 5)
)
def test_no_prompt_and_no_group_stands_on_both_sides(pairs, seed):
    rows = tuple(
        _row(f"Q {p}!", "a", i + 1, group=f"g{g}" if g < 3 else None) for i, (p, g) in enumerate(pairs)
    )
    try:
        train, held = split(rows, None, seed)
    except DatasetError:
        return
    for name in (lambda row: row.source.group, lambda row: normalised(row.messages[0].content)):
        assert not {name(row) for row in train} & {name(row) for row in held}
    assert sorted(r.source.line for r in (*train, *held)) == [r.source.line for r in rows]


def test_a_prompt_inside_a_longer_conversation_stays_on_its_side():
    longer = Row(
        messages=(
            *_row("Q 1", "a").messages,
            Turn(role="user", content="x"),
            Turn(role="assistant", content="y"),
        ),
        source=Source(file="b", line=1, format="chat", group="long"),
    )
    for seed in range(8):
        train, held = split((_row("Q 1", "a"), longer, *_rows(10)), 4, seed)

        assert not ({"long", prompt_key(longer.messages[:1])} & {r.source.group for r in train}) or not (
            {"long", prompt_key(longer.messages[:1])} & {r.source.group for r in held}
        )


def test_the_split_is_repeatable_and_the_seed_changes_it():
    rows = _rows(60)

    assert split(rows, None, 0) == split(rows, None, 0)
    assert split(rows, None, 0) != split(rows, None, 1)


@pytest.mark.parametrize(("rows", "held"), [(9, 3), (200, 66), (600, 100), (3000, 300), (90000, 500)])
def test_a_tenth_is_held_out_within_bounds(rows, held):
    assert default_size(rows) == held


@pytest.mark.parametrize("rows", [(), _rows(1), tuple(_row("same", f"a{i}") for i in range(9))])
def test_too_few_groups_are_refused_with_a_sentence(rows):
    with pytest.raises(DatasetError) as caught:
        split(rows, None, 0)

    assert caught.value.exit_code == Exit.DATASET
    assert "group" in str(caught.value)


def test_more_held_out_rows_than_there_are_is_refused():
    with pytest.raises(DatasetError):
        split(_rows(10), 10, 0)


# --- store


@given(st.lists(st.tuples(prose, prose), min_size=1, max_size=5))
def test_rows_read_back_as_they_were_whatever_they_say(tmp_path_factory, pairs):
    rows = tuple(_row(p, a, i + 1) for i, (p, a) in enumerate(pairs))
    path = tmp_path_factory.mktemp("rows") / "r.jsonl"
    total = store.write(path, rows)

    assert store.read_rows(path) == rows
    assert total == store.sha256(path)
    assert len(path.read_text(encoding="utf-8").splitlines()) == len(rows)


def test_a_full_disk_leaves_the_old_file_and_nothing_half_written(tmp_path, monkeypatch):
    path = tmp_path / "r.jsonl"
    store.write(path, _rows(2))
    before = path.read_bytes()

    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoRoom) as caught:
        store.write(path, _rows(50))

    assert caught.value.exit_code == Exit.ENVIRONMENT
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.jsonl"]


def test_a_directory_that_is_not_there_is_said(tmp_path):
    with pytest.raises(NoRoom):
        store.write(tmp_path / "no" / "r.jsonl", _rows(1))


def test_a_line_that_is_no_row_is_named(tmp_path):
    path = tmp_path / "r.jsonl"
    store.write(path, _rows(1))
    path.write_bytes(path.read_bytes() + b'{"messages": []}\n')

    with pytest.raises(DatasetError, match=r"r\.jsonl:2"):
        store.read_rows(path)


# --- tokens


def test_without_a_tokenizer_the_counts_are_estimates_and_say_so():
    counted = stats(_rows(10), None)

    assert (counted.rows, counted.counted) == (10, "estimated")
    assert counted.trained_tokens < counted.tokens
    assert counted.mean_tokens <= counted.p99_tokens <= counted.longest_tokens


def test_chinese_needs_more_tokens_a_character():
    assert estimated(["a" * 100]) == [30]
    assert estimated(["中" * 100]) == [60]


def test_with_a_tokenizer_tokens_are_counted(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.enable_truncation(2)
    words.save(str(tmp_path / "tokenizer.json"))
    counted = stats([_row("a b a", "b a")], tmp_path)

    assert counted.counted == "tokenizer"
    assert counted.tokens == 3 + 2 + 2 * 5 + 1  # the texts, around two turns, the beginning
    assert counted.trained_tokens == 2 + 1  # the answer and its end
    assert answer_tokens([_row("a b a", "b a")], tmp_path) == 3


def test_a_tokenizer_that_is_broken_or_missing_is_no_reason_to_fail(tmp_path):
    assert tokenizer(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text("{}")

    assert stats(_rows(2), tmp_path).counted == "estimated"


def test_statistics_of_nothing_are_zero():
    assert stats([], None).tokens == 0


# --- facts


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([json.dumps({"a": i, "b": "x"}) for i in range(30)], {"output_strictness": "json_schema"}),
        (["yes", "no", "yes"] * 10, {"task_type": "classification", "n_labels": 2}),
        ([f"Number {i} it is." for i in range(30)], {}),
        ([json.dumps({"a": 1})] * 20 + ["no json"] * 10 + [f"x {i}" for i in range(10)], {}),
    ],
)
def test_data_tells_what_can_be_told_and_guesses_nothing(answers, told: Mapping[str, object]):
    found = facts_of([_row(f"q{i}", answer) for i, answer in enumerate(answers)])

    assert found == {"n_labelled": len(answers), **told}


@pytest.mark.parametrize(
    ("labels", "low"),
    [(("yes", "no"), True), (("yes", "yes"), False), (("yes", "yes", "yes", "no"), True)],
    ids=["always different", "copies say nothing", "one of four"],
)
def test_labels_of_the_same_input_can_show_that_people_disagree(labels, low):
    rows = [_row(f"q{i}", ("no" if i % 2 else "yes") if label == labels[0] else label)
            for i in range(30) for label in labels]  # fmt: skip

    assert ("label_agreement" in facts_of(rows)) == low


def test_a_few_repeated_inputs_tell_nothing_about_agreement():
    rows = [_row(f"q{i}", label) for i in range(10) for label in ("yes", "no")]

    assert "label_agreement" not in facts_of(rows)


def test_text_counts_as_unlabelled():
    row = Row(
        kind="text", messages=(Turn(role="assistant", content="x" * 100),), source=_row("a", "b").source
    )

    assert facts_of([row]) == {"n_labelled": 0, "unlabelled_tokens": 30}


# --- checks


DEFECTS = {
    "E_SPECIAL": _row("Hi <|im_end|>", "there"),
    "E_SECRET": _row("key?", "AKIA" + "ABCDEFGHIJKLMNOP"),
    "W_ENC": _row("caf\u00c3\u00a9", "x"),
    "W_PII": _row("mail?", "greta@example.org"),
    "W_BOILER": _row("dear", "Dear [Your Name], hello"),
    "W_LENGTH": _row("long", "word and more " * 900),
    "W_REPEAT": _row("again", "the same five words here " * 12),
}


@pytest.mark.parametrize("code", DEFECTS)
def test_a_planted_defect_is_found_and_named(code):
    rows = (*_rows(120), DEFECTS[code])

    assert code in _codes(rows)


def test_clean_rows_are_silent():
    assert _codes(_rows(120)) == {"I_SIZE"}


def test_duplicates_and_contradictions_are_told_with_both_lines():
    rows = (
        *_rows(60),
        _row("2+2", "4", 61),
        _row("2+2", "4", 62),
        _row("3+3", "6", 63),
        _row("3+3", "7", 64),
    )
    found = {finding.code: finding for finding in checks.check(rows)}

    assert (found["W_EXACT_DUP"].line, found["W_EXACT_DUP"].values["first"]) == (62, 61)
    assert (found["W_CONTRADICT"].line, found["W_CONTRADICT"].values["line"]) == (64, 63)


def test_two_long_answers_to_one_prompt_are_no_contradiction():
    rows = (
        *_rows(20),
        _row("tell", "once upon a time there was a king"),
        _row("tell", "there was once a queen far away"),
    )

    assert "W_CONTRADICT" not in _codes(rows)


def test_different_sums_are_different_prompts():
    rows = (*_rows(20), _row("3+4", "7"), _row("3-4", "-1"))

    assert not {"W_CONTRADICT", "W_EXACT_DUP"} & _codes(rows)


def test_few_rows_mixed_forms_and_rare_classes_are_told():
    mixed = tuple(_row(f"q{i}", json.dumps({"a": i}) if i % 10 else f"text {i}") for i in range(60))
    classes = tuple(_row(f"q{i}", "rare" if i < 3 else "often") for i in range(90))

    assert "W_SIZE" in _codes(_rows(5))
    assert "W_FORMAT" in _codes(mixed)
    assert "W_BALANCE" in _codes(classes)


def test_a_secret_is_never_quoted():
    said = [str(finding) for finding in checks.check((*_rows(60), DEFECTS["E_SECRET"]))]

    assert not any("AKIA" in text for text in said)


def test_of_many_equal_findings_the_first_are_named_and_the_rest_counted():
    rows = tuple(_row(f"q{i} </s>", "a") for i in range(100))
    found = [finding for finding in checks.check(rows) if finding.code == "E_SPECIAL"]

    assert len(found) == checks.SHOWN + 1
    assert found[-1].values["count"] == 100 - checks.SHOWN


def test_checks_of_nothing_do_not_fail():
    assert [finding.code for finding in checks.check(())] == ["W_SIZE"]
