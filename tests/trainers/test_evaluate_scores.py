"""What an answer is worth."""

import json

import pytest

from recipes.rows import Check, Row, Source, Turn
from recipes.rows import score_names as names
from trainers.evaluate.scores import fields, plain, score


def row(answer, checks=(), kind="sft", group="g"):
    turns = (Turn(role="user", content="?"), Turn(role="assistant", content=answer))
    source = Source(file="a.jsonl", line=1, format="chat", group=group)
    return Row(kind=kind, messages=turns if kind == "sft" else turns[1:], checks=tuple(checks), source=source)


def test_exact_forgives_white_space_and_compatible_forms_only():
    wanted = row("Ａ fine day")

    assert score(wanted, " A fine day\n", stopped=True, wanted=["exact"]) == {"exact": 1.0}
    assert score(wanted, "a fine day", stopped=True, wanted=["exact"]) == {"exact": 0.0}
    assert plain("ﬁ ") == "fi"


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ('{"item": "lamp", "urgent": false, "n": 1, "tags": ["a"]}', 1.0),
        ('{"tags": ["a"], "n": 1, "urgent": false, "item": "lamp"}', 1.0),
        ('{"item": "lamp", "urgent": "no", "n": 1, "tags": ["a"]}', 0.75),
        ('{"item": "lamp", "urgent": 0, "n": 1.0, "tags": ["a", "b"]}', 0.25),
        ('{"item": "lamp"}', 0.25),
        ("item: lamp", 0.0),
        ('["lamp"]', 0.0),
        ("[" * 100_000, 0.0),
    ],
)
def test_fields_compare_value_and_type(answer, share):
    reference = '{"item": "lamp", "urgent": false, "n": 1, "tags": ["a"]}'

    assert fields(reference, answer) == share


def test_an_empty_object_is_right_only_as_an_empty_object():
    assert (fields("{}", "{}"), fields("{}", '{"a": 1}')) == (1.0, 0.0)


def test_all_checks_of_one_name_hold_together():
    style = [
        Check(name="style", kind="starts_with", value="Ahoy"),
        Check(name="style", kind="ends_with", value="winds!"),
    ]
    wanted = row("Ahoy! Fair winds!", [*style, Check(name="fact", kind="contains", value="coins")])

    def of(answer):
        return score(wanted, answer, stopped=False, wanted=["style", "fact", "stopped"])

    assert of(" Ahoy! 9 coins. Fair winds! ") == {"style": 1.0, "fact": 1.0, "stopped": 0.0}
    assert of("Ahoy! 9 coins.") == {"style": 0.0, "fact": 1.0, "stopped": 0.0}


def test_a_score_that_does_not_apply_to_every_row_is_left_out():
    thing = json.dumps({"a": 1})
    check = Check(name="style", kind="equals", value="x")

    assert names([row(thing), row(thing)]) == ("exact", "fields", "stopped", "nll")
    assert names([row(thing), row("text")]) == ("exact", "stopped", "nll")
    assert names([row("x", [check]), row("y", [check])]) == ("exact", "style", "stopped", "nll")
    assert names([row("x", [check]), row("y")]) == ("exact", "stopped", "nll")


def test_plain_text_has_a_likelihood_and_nothing_else():
    assert names([row("once upon a time", kind="text")]) == ("nll",)
