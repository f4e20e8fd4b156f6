"""The contract: a written recipe reads back as the same plan, and a wrong one says all that is wrong."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import nodes
from recipes_plans import plans, reasons

from recipes.errors import RecipeError
from recipes.plan import Data, Lora, Model, Plan, Probe, Schedule, digest
from recipes.read import read, read_probe
from recipes.write import _environment, remark, write

PLAN = Plan(
    name="tone",
    model=Model(id="base"),
    adaptation=Lora(),
    data=Data(train="a", train_sha256="0" * 64, held_out="b", held_out_sha256="1" * 64, length_tokens=64),
    schedule=Schedule(epochs=1, micro_batch_tokens=256, learning_rate=2e-4),
)


@settings(max_examples=400)
@given(plans, reasons)
def test_a_written_recipe_reads_back_as_the_same_plan(plan, why):
    assert read(write(plan, why)) == plan


@given(plans)
def test_the_digest_depends_on_the_plan_and_not_on_its_comments(plan):
    again = read(write(plan, {"": "other words", "name": "and more"}))

    assert digest(again) == digest(plan)


def test_the_reason_stands_above_its_value():
    text = write(PLAN, {"adaptation.rank": "capacity is almost never the limit below 10,000 rows"})

    assert "# capacity is almost never the limit below 10,000 rows\nrank = 16\n" in text


def test_a_reason_with_a_line_break_stays_a_comment():
    assert write(PLAN, {"name": 'x\nname = "other"'}).count('\nname = "tone"') == 1


@given(st.text())
def test_a_remark_never_leaves_its_comment(text):
    assert all(
        line.startswith("#") and all(c.isprintable() for c in line) for line in remark(text).split("\n")
    )


def test_all_problems_are_named_at_once_with_their_lines():
    text = write(PLAN, {}).replace("rank = ", "rnak = ").replace("epochs = 1.0", "epochs = -1")

    with pytest.raises(RecipeError) as caught:
        read(text, "my/recipe.toml")

    said = str(caught.value)
    assert re.search(r"my/recipe.toml:\d+: unknown key adaptation.rnak; did you mean rank\?", said)
    assert re.search(r"my/recipe.toml:\d+: schedule.epochs = -1: ", said)
    assert (
        text.split("\n")[next(p.line for p in caught.value.problems if "epochs" in p.key) - 1]
        == "epochs = -1"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "schema_version is missing"),
        ("schema_version = 2", "update finetune-advisor"),
        ("schema_version = true", "must be a whole number"),
        ("schema_version = 1", "the key adaptation is missing"),
        ("x = [", "this is not TOML"),
        ("x = " + "[" * 5000, "this is not"),
        ("x = " + "9" * 6000, "this is not a recipe"),
        ("#" * 2**21, "too large"),
        (write(PLAN, {}).replace("2e-04", "0.0002").replace("0.0002", "inf"), "finite"),
        (write(PLAN, {}).replace("0.0002", "nan"), "finite"),
        (write(PLAN, {}).replace('name = "tone"', 'name = "../tone"'), "name = '../tone'"),
        (write(PLAN, {}).replace('id = "base"', 'id = "\\u001b[2J"'), "cannot be printed"),
    ],
)
def test_a_wrong_recipe_is_refused_in_words(text, said):
    with pytest.raises(RecipeError, match=re.escape(said)):
        read(text)


@given(st.integers(0, 1500), st.characters(exclude_categories=["Cs"]))
def test_a_recipe_with_any_character_changed_is_read_or_refused_but_never_crashes(place, character):
    text = write(PLAN, {})
    at = place % len(text)

    try:
        read(text[:at] + character + text[at + 1 :])
    except RecipeError as error:
        assert error.problems


def test_every_slot_of_the_template_ends_in_a_typed_filter():
    prose = {"plain", "code", "number", "share", "span"}
    typed = {"guide": prose, "launch": {"sh", "whole"}, "": {"toml", "remark", "key", "rendered"}}
    environment = _environment()
    for name in environment.list_templates(filter_func=lambda name: name.endswith(".jinja")):
        source, *_ = environment.loader.get_source(environment, name)
        for output in environment.parse(source).find_all(nodes.Output):
            slots = [node for node in output.nodes if not isinstance(node, nodes.TemplateData)]

            assert all(
                isinstance(s, nodes.Filter) and s.name in typed[name.rpartition("/")[0]] for s in slots
            )


def test_a_probe_reads_back_and_names_what_is_wrong():
    probe = Probe(model=PLAN.model, data=PLAN.data)

    assert read_probe(probe.model_dump_json(exclude_none=True)) == probe
    with pytest.raises(RecipeError, match="the key data is missing"):
        read_probe('{"schema_version": 1, "model": {"id": "x"}}')
