"""Every known format becomes the same rows; what cannot is a finding that says why."""

import json

import pytest

from advisor.data.convert import MAX_PROSE, convert
from advisor.data.store import line_of
from advisor.errors import DatasetError, UnknownName
from recipes.exits import Exit

TURNS = [("user", "Who?"), ("assistant", "Greta.")]


def _file(tmp_path, *values, name="a.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(value) for value in values), encoding="utf-8")
    return path


def _turns(row):
    return [(turn.role, turn.content) for turn in row.messages]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Greta."}]}, "chat"),
        ({"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Greta."}]}, "chat"),
        ({"conversation": [{"human": "Who?", "assistant": "Greta."}]}, "chat"),
        ({"messages": "[{'from': ' Human', 'value': 'Who?'}, {'from': 'GPT', 'value': 'Greta.'}]"}, "chat"),
        ({"talk": [{"speaker": "用户", "text": "Who?"}, {"speaker": "助手", "text": "Greta."}]}, "chat"),
        (
            {"messages": [
                {"role": "user", "content": [{"type": "text", "text": "Who?"}]},
                {"role": "assistant", "content": "Greta."},
            ]},
            "chat",
        ),
        ({"instruction": "Who?", "input": "", "output": "Greta."}, "alpaca"),
        ({"Instruction": "Who?", "response": "Greta."}, "alpaca"),
        ({"prompt": "Who?", "completion": "Greta."}, "prompt_completion"),
        ({"question": "Who?", "answer": "Greta."}, "prompt_completion"),
        ({"input": "Who?", "output": "Greta."}, "prompt_completion"),
        ({"text": "Who?", "label": "Greta."}, "prompt_completion"),
    ],
)  # fmt: skip
def test_each_format_becomes_the_same_row(tmp_path, value, name):
    converted = convert(_file(tmp_path, value))

    assert converted.format == converted.rows[0].source.format == name
    assert _turns(converted.rows[0]) == TURNS
    assert converted.confidence == 1.0


def test_alpaca_joins_instruction_and_input_and_keeps_system_and_history(tmp_path):
    value = {
        "instruction": "Add",
        "input": "2+2",
        "output": "4",
        "system": "Count.",
        "history": [["Hi", "Hello"]],
    }
    row = convert(_file(tmp_path, value)).rows[0]

    assert _turns(row) == [
        ("system", "Count."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Add\n2+2"), ("assistant", "4"),
    ]  # fmt: skip


def test_a_task_becomes_a_system_line(tmp_path):
    row = convert(_file(tmp_path, {"task": "sum", "input": "1", "output": "2"})).rows[0]

    assert _turns(row)[0] == ("system", "Task: sum")


def test_an_answer_that_is_an_object_is_written_as_json(tmp_path):
    converted = convert(_file(tmp_path, {"prompt": "p", "completion": {"a": [1, "é"]}}))

    assert converted.rows[0].answer == '{"a": [1, "é"]}'
    assert [finding.code for finding in converted.findings] == ["I_TEXT"]


@pytest.mark.parametrize("wish", [{"weight": 0}, {"train": False}, {"loss": False}])
def test_an_answer_that_is_not_to_be_trained_stays_untrained(tmp_path, wish):
    messages = [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b", **wish},
        {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"},
    ]  # fmt: skip
    row = convert(_file(tmp_path, {"messages": messages})).rows[0]

    assert [turn.train for turn in row.messages] == [None, False, None, None]


def test_mixed_formats_are_all_converted_and_said(tmp_path):
    converted = convert(
        _file(tmp_path, *[{"prompt": f"p{i}", "completion": "c"} for i in range(3)], {"text": "alone"})
    )

    assert [row.kind for row in converted.rows] == ["sft", "sft", "sft", "text"]
    assert (converted.format, converted.confidence) == ("prompt_completion", 0.75)
    assert "W_MIXED" in {finding.code for finding in converted.findings}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"prompt": "p", "chosen": "c", "rejected": "r"}, "preference"),
        ({"prompt": "p", "completion": "c", "label": True}, "KTO"),
        ({"input_ids": [1], "labels": [1]}, "tokenised"),
        ({"learning_rate": 1e-4, "base_model": "m"}, "configuration"),
        ({"prompt": "p", "responses": ["a"], "scores": [1]}, "ranked"),
        ({"prompt": "p", "completions": ["a"], "labels": [True]}, "step-by-step"),
        ({"foo": "x"}, "fits no format"),
        ({"prompt": "p", "completion": ""}, "empty"),
        ({"prompt": "p", "completion": None}, "empty"),
        ({"prompt": " ", "completion": "c"}, "empty"),
        ([1, 2], "not [1, 2]"),
        ({"messages": [{"role": "user", "content": "a"}]}, "no answer"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "does not begin with the user"),
        ({"messages": [{"role": "wizard", "content": "a"}]}, "unknown role"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "x"}]}, "tool"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "something other than text"),
        ({"prompt": "p", "completion": "x" * (MAX_PROSE + 1)}, "65537 characters"),
    ],
)
def test_what_is_no_example_is_a_finding_with_its_line_and_the_rest_is_kept(tmp_path, value, said):
    converted = convert(_file(tmp_path, {"prompt": "p", "completion": "c"}, value))
    blocking = [finding for finding in converted.findings if finding.blocking]

    assert len(converted.rows) == 1
    assert [finding.line for finding in blocking] == [2]
    assert said in str(blocking[0])


def test_a_file_without_an_example_names_the_first_problems_with_their_lines(tmp_path):
    path = _file(tmp_path, {"prompt": "p", "chosen": "c", "rejected": "r"}, {"foo": 1})
    with pytest.raises(DatasetError) as caught:
        convert(path)

    assert caught.value.exit_code == Exit.DATASET
    assert f"{path}:1" in str(caught.value)
    assert f"{path}:2" in str(caught.value)


def test_a_conversation_is_mended_where_that_is_safe_and_it_is_said(tmp_path):
    messages = [("user", "a"), ("user", "b"), ("assistant", "c"), ("user", "open")]
    value = {"messages": [{"role": role, "content": content} for role, content in messages]}
    converted = convert(_file(tmp_path, value))

    assert _turns(converted.rows[0]) == [("user", "a\n\nb"), ("assistant", "c")]
    assert [finding.code for finding in converted.findings] == ["W_ROLES", "W_ROLES"]


def test_a_choice_between_columns_is_said_and_lowers_the_confidence(tmp_path):
    path = _file(tmp_path, {"prompt": "p", "answer": "a", "response": "b"})
    guessed, told = convert(path), convert(path, mapping={"prompt": "prompt", "completion": "answer"})

    assert guessed.confidence < 0.95
    assert "W_COLUMNS" in {finding.code for finding in guessed.findings}
    assert (told.rows[0].answer, told.confidence) == ("a", 1.0)


def test_a_mapping_names_known_places_only(tmp_path):
    with pytest.raises(UnknownName, match="promt"):
        convert(_file(tmp_path, {"prompt": "p", "answer": "a"}), mapping={"promt": "prompt"})


def test_columns_that_are_not_used_are_named(tmp_path):
    converted = convert(_file(tmp_path, {"prompt": "p", "completion": "c", "licence": "x"}))

    assert "licence" in str(next(f for f in converted.findings if f.code == "I_UNUSED"))


def test_checks_and_context_pass_through(tmp_path):
    check = {"name": "style", "kind": "starts_with", "value": "Ahoy"}
    row = convert(
        _file(tmp_path, {"prompt": "p", "completion": "c", "checks": [check], "context": "note"})
    ).rows[0]

    assert (row.checks[0].value, row.context) == ("Ahoy", "note")


def test_our_own_rows_are_recognised_and_unchanged(tmp_path):
    first = convert(_file(tmp_path, {"prompt": "p\u2028q", "completion": "c"}, {"text": "t"}))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(map(line_of, first.rows)))
    again = convert(path)

    assert again.format == "rows"
    assert again.rows == first.rows


def test_equal_prompts_share_a_group_however_they_are_spelt_and_an_id_wins(tmp_path):
    one, two, named = convert(_file(
        tmp_path, {"prompt": "Who  is it?", "completion": "a"}, {"prompt": "who is it", "completion": "b"},
        {"prompt": "Who is it?", "completion": "c", "conversation_id": 7},
    )).rows  # fmt: skip

    assert one.source.group == two.source.group
    assert named.source.group == "7"


def test_a_very_long_document_becomes_several_rows_of_one_group(tmp_path):
    text = "word " * (MAX_PROSE // 2)
    rows = convert(_file(tmp_path, {"text": text})).rows

    assert "".join(row.answer for row in rows) == text
    assert len(rows) > 1
    assert len({row.source.group for row in rows}) == 1


def test_a_table_may_hold_messages_as_text(tmp_path):
    path = tmp_path / "a.csv"
    said = json.dumps([{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Greta."}])
    path.write_text('messages\n"' + said.replace('"', '""') + '"\n', encoding="utf-8")

    assert _turns(convert(path).rows[0]) == TURNS
