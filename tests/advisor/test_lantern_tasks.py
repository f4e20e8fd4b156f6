import json

import pytest

from advisor.errors import UnknownName
from advisor.learn.lantern.tasks import TASKS, fresh_facts, task
from advisor.learn.lantern.world import world
from recipes.rows import Check, Row

ROWS = {
    "voice": (224, 100),
    "easy": (400, 100),
    "facts": (142, 100),
    "ticket": (400, 100),
    "hard": (400, 100),
}


def holds(check: Check, text: str) -> bool:
    match check.kind:
        case "equals":
            return text == check.value
        case "contains":
            return check.value in text
        case "starts_with":
            return text.startswith(check.value)
        case "ends_with":
            return text.endswith(check.value)


@pytest.mark.parametrize("name", TASKS)
def test_the_numbers_of_rows_are_known(name):
    found = task(name)

    assert (len(found.train), len(found.held_out)) == ROWS[name]


@pytest.mark.parametrize("name", TASKS)
def test_every_row_survives_the_file_it_is_written_to(name):
    rows = [*task(name).train, *task(name).held_out]

    assert [Row.model_validate_json(row.model_dump_json()) for row in rows] == rows


@pytest.mark.parametrize("name", TASKS)
def test_no_held_out_group_and_no_held_out_question_is_trained(name):
    train, held_out = task(name).train, task(name).held_out

    assert not {row.source.group for row in train} & {row.source.group for row in held_out}
    assert not {row.prompt for row in train} & {row.prompt for row in held_out}


@pytest.mark.parametrize("name", TASKS)
def test_no_question_stands_twice_in_the_training_rows(name):
    prompts = [row.prompt for row in task(name).train]

    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("name", TASKS)
def test_the_reference_answer_passes_its_own_checks(name):
    assert all(holds(check, row.answer) for row in task(name).held_out for check in row.checks)


def test_a_voice_row_checks_the_voice_and_the_fact_apart():
    row = task("voice").held_out[0]
    plain = row.answer.removeprefix("Ahoy, shipmate! ").removesuffix(" Fair winds!")

    assert {check.name for check in row.checks if not holds(check, plain)} == {"style"}


def test_the_voice_task_asks_what_the_base_knows_and_the_facts_task_what_it_does_not():
    canon = {" / ".join(fact.key) for fact in world().canon}
    fresh = {" / ".join(fact.key) for fact in fresh_facts()}

    assert {row.source.group for row in task("voice").held_out} <= canon
    assert {row.source.group for row in task("facts").held_out} <= fresh
    assert not canon & fresh


def test_the_note_of_a_facts_row_holds_its_answer():
    assert all(row.checks[0].value in (row.context or "") for row in task("facts").held_out)


def test_half_of_the_tickets_are_urgent():
    urgent = [json.loads(row.answer)["urgent"] for row in task("ticket").train]

    assert urgent.count(True) == urgent.count(False)


def test_a_task_is_made_of_the_same_rows_every_time():
    assert TASKS["ticket"]() == TASKS["ticket"]()


def test_an_unknown_task_names_the_nearest_one():
    with pytest.raises(UnknownName, match="'voise'") as raised:
        task("voise")

    assert "voice" in str(raised.value.values["near"])
