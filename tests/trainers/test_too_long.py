"""Rows that are longer than they may be: refused, left out, cut or split, as the recipe says, and counted."""

import pytest
import tiny
from test_run import events, go, last, report

from recipes.exits import Exit
from trainers import batches, data

LONG = "ab " * 60
POLICIES = ("drop", "truncate", "split")


def prepared(policy, rows, length=48):
    wanted = data.Data(
        train="t", train_sha256="0" * 64, held_out="h", held_out_sha256="0" * 64,
        length_tokens=length, too_long=policy,
    )  # fmt: skip
    return data.examples(tiny.tokenizer(), rows, wanted)


def long_answer(line=9):
    return tiny.row("say it", LONG, line=line)


def test_a_row_that_is_cut_keeps_its_beginning_and_learns_no_end():
    found = prepared("truncate", [*tiny.rows(2), long_answer()])
    whole = data.masked(tiny.tokenizer(), long_answer())
    cut = found.kept[-1]

    assert (found.cut, found.dropped, len(found.kept)) == (("data.jsonl:9",), (), 3)
    assert cut.ids == whole.ids[:48]
    assert any(cut.trained)
    end = tiny.tokenizer().eos_token_id
    assert end not in [token for token, trained in zip(cut.ids, cut.trained, strict=True) if trained]


def test_a_row_that_is_split_trains_every_token_of_its_answer_once():
    found = prepared("split", [long_answer()])
    whole = data.masked(tiny.tokenizer(), long_answer())

    assert len(found.kept) > 2
    assert found.cut == ("data.jsonl:9",)
    assert all(len(part.ids) <= 48 for part in found.kept)
    assert sum(sum(part.trained) for part in found.kept) == sum(whole.trained)


def test_a_row_of_which_nothing_trained_is_left_counts_as_left_out():
    question = tiny.row(LONG, "ahoy", line=9)

    assert prepared("truncate", [*tiny.rows(2), question]).dropped == ("data.jsonl:9",)
    assert prepared("split", [*tiny.rows(2), question]).cut == ("data.jsonl:9",)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_run_counts_what_happened_to_long_rows(home, policy):
    plan = tiny.plan(home, train=[*tiny.rows(8), tiny.row("say it", "ab " * 90, line=9)], max_steps=2)
    plan = plan.model_copy(update={"data": plan.data.model_copy(update={"too_long": policy})})
    code = go(home, plan)
    training = report(home).training
    told = [event["code"] for event in events(home) if event["type"] == "warn"]

    assert code == Exit.OK
    assert (training.rows_dropped, training.rows_cut) == ((1, 0) if policy == "drop" else (0, 1))
    assert ("D0201" in told, "D0203" in told) == (policy == "drop", policy != "drop")


def test_a_run_may_refuse_long_rows_by_place(home):
    plan = tiny.plan(home, train=[*tiny.rows(8), tiny.row("say it", "ab " * 90, line=9)])
    plan = plan.model_copy(update={"data": plan.data.model_copy(update={"too_long": "refuse"})})

    assert go(home, plan) == Exit.DATASET
    assert last(home)["places"] == ["data.jsonl:9"]


def test_what_packing_came_to_is_told(home):
    plan = tiny.plan(home, max_steps=1)
    go(home, plan)
    (told,) = [event for event in events(home) if event["type"] == "packing"]
    found = batches.packing([40, 40, 40, 50], plan.schedule.model_copy(update={"micro_batch_tokens": 100}))

    assert (told["documents"], told["capacity_tokens"]) == (24, 128)
    assert 0.5 < told["fill"] <= 1
    assert (found.bins, found.fullest_tokens, found.documents_a_bin) == (2, 90, 2.0)
    assert found.fill == 170 / 200
