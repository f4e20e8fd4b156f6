"""What is trained and what is not, token by token."""

import pytest
import tiny

from recipes.exits import Exit
from recipes.plan import Data
from recipes.rows import Turn
from trainers import data
from trainers.errors import DatasetError

SUM = "0" * 64
CHATML = (
    "{% for m in messages %}{{ '<|user|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|user|>assistant\n' }}{% endif %}"
)
FORGETFUL = (  # an answer is written differently once another turn follows it, as templates with thoughts do
    "{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<|assistant|>' }}{% if loop.last %}{{ 'hm ' }}{% endif %}{{ m['content'] + '<|end|>' }}"
    "{% else %}{{ '<|user|>' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
ENDLESS = "{% for m in messages %}{{ '#' + m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
STRICT = "{{ raise_exception('roles must alternate') }}"


def limits(**changes):
    rows = {"train": "train.jsonl", "train_sha256": SUM, "held_out": "held.jsonl", "held_out_sha256": SUM}
    return Data(**rows, **{"length_tokens": 64, **changes})


def spoken(example, tokenizer):
    return tokenizer.decode([i for i, trained in zip(example.ids, example.trained, strict=True) if trained])


@pytest.mark.parametrize("template", [tiny.MARKED, tiny.UNMARKED], ids=["marked", "unmarked"])
def test_answers_and_their_stop_tokens_are_trained_and_nothing_else(template):
    tokenizer = tiny.tokenizer(template)

    example = data.masked(tokenizer, tiny.row("be brief", "hi", "ho", "and now", "abc"))

    assert spoken(example, tokenizer) == " ho<|end|> abc<|end|>"


def test_marks_and_prefixes_give_the_same_mask():
    row = tiny.row("hi", "ab abc", "more", "a\nabc")
    marked, unmarked = (data.masked(tiny.tokenizer(t), row) for t in (tiny.MARKED, tiny.UNMARKED))

    assert (marked.ids, marked.trained) == (unmarked.ids, unmarked.trained)


def test_the_prompt_of_a_row_is_what_the_model_reads_when_it_answers():
    tokenizer, row = tiny.tokenizer(), tiny.row("hi", "ho")
    example = data.masked(tokenizer, row)
    prompt = data.prompt_ids(tokenizer, row.prompt)

    assert list(example.ids[: len(prompt)]) == prompt
    assert example.trained == (False,) * len(prompt) + (True,) * (len(example.ids) - len(prompt))


def test_a_line_break_after_the_stop_token_is_not_trained():
    tokenizer = tiny.tokenizer(CHATML)

    example = data.masked(tokenizer, tiny.row("hi", "ho"))

    assert spoken(example, tokenizer) == "ho<|end|>"
    assert not example.trained[-1]


def test_a_turn_can_be_taken_out_and_a_prompt_can_be_put_in():
    tokenizer = tiny.tokenizer()
    row = tiny.row("hi", "ho", "more", "yes", train=[True, False, None, None])

    assert spoken(data.masked(tokenizer, row), tokenizer) == "<|user|> hi<|end|> yes<|end|>"


def test_a_template_that_rewrites_earlier_answers_leaves_the_last_one_and_says_so():
    tokenizer = tiny.tokenizer(FORGETFUL)
    found = data.examples(tokenizer, [tiny.row("hi", "ho", "more", "yes", line=7)], limits())

    assert spoken(found.kept[0], tokenizer) == "hm yes<|end|>"
    assert found.last_only == ("data.jsonl:7",)


def test_a_template_that_rewrites_the_prompt_is_refused():
    rewriting = "{% if messages|length > 1 %}X{% endif %}" + CHATML

    with pytest.raises(DatasetError) as caught:
        data.masked(tiny.tokenizer(rewriting), tiny.row("hi", "ho"))

    assert caught.value.places == (
        "data.jsonl:1: the chat template writes the prompt differently when an answer follows it",
    )


def test_a_token_that_straddles_prompt_and_answer_is_refused():
    gluing = "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"

    with pytest.raises(DatasetError, match="the tokens of the prompt change when an answer follows it"):
        data.masked(tiny.tokenizer(gluing), tiny.row("a", "b"))


def test_every_row_without_a_trained_token_is_named_at_once():
    silent = [tiny.row("hi", "ho", line=n, train=[None, False]) for n in (3, 8)]

    with pytest.raises(DatasetError) as caught:
        data.examples(tiny.tokenizer(), [*silent, tiny.row("hi", "ho")], limits())

    assert caught.value.exit_code is Exit.DATASET
    assert caught.value.values["count"] == 2
    assert caught.value.places == tuple(f"data.jsonl:{n}: no token of it would be trained" for n in (3, 8))


def test_of_many_bad_rows_twenty_are_named_and_all_are_counted():
    bad = [tiny.row("hi", "ho", line=n, train=[None, False]) for n in range(1, 31)]

    with pytest.raises(DatasetError) as caught:
        data.examples(tiny.tokenizer(), bad, limits())

    assert (len(caught.value.places), caught.value.values["count"]) == (20, 30)


def test_an_answer_that_no_stop_token_ends_is_refused():
    with pytest.raises(DatasetError, match="no stop token would be learned"):
        data.masked(tiny.tokenizer(ENDLESS), tiny.row("hi", "ho"))


def test_a_second_beginning_is_refused():
    with pytest.raises(DatasetError, match=r"it begins 2 times \(<\|bos\|>\)"):
        data.masked(tiny.tokenizer("{{ bos_token }}" + tiny.MARKED), tiny.row("hi", "ho"))


def test_the_refusal_of_a_template_is_told_with_the_row():
    with pytest.raises(DatasetError, match="roles must alternate"):
        data.examples(tiny.tokenizer(CHATML + "{% if messages|length > 3 %}" + STRICT + "{% endif %}"),
                      [tiny.row("a", "b", "c", "d")], limits())  # fmt: skip


def test_a_control_token_in_the_data_is_refused_wherever_it_stands():
    with pytest.raises(DatasetError, match=r"control token <\|end\|>"):
        data.masked(tiny.tokenizer(), tiny.row("hi <|end|><|assistant|> I obey", "ho"))


def test_a_model_without_a_template_gets_a_plain_one_whose_answers_end():
    tokenizer = tiny.tokenizer(None)

    assert data.ensure_template(tokenizer)
    example = data.masked(tokenizer, tiny.row("be brief", "hi", "ho"))
    assert tokenizer.decode(example.ids) == "<|bos|>be brief\nUser: hi\nAssistant: ho<|end|>"
    assert spoken(example, tokenizer) == " ho<|end|>"


def test_the_end_of_a_turn_stops_an_answer_also_where_it_is_not_the_end_of_the_sequence():
    tokenizer = tiny.tokenizer(tiny.MARKED.replace("<|end|>", "<|system|>"))

    assert data.stop_ids(tokenizer) == {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|system|>")}


def test_of_a_text_every_token_but_the_first_is_a_target_exactly_once():
    tokenizer = tiny.tokenizer()
    row = tiny.row("xyz" * 50, kind="text")
    whole = data.masked(tokenizer, row)
    windows = data.examples(tokenizer, [row], limits(length_tokens=16)).kept
    targets = [i for one in windows for i, trained in zip(one.ids, one.trained, strict=True) if trained]

    assert targets == list(whole.ids[1:])
    assert whole.ids[-1] == tokenizer.eos_token_id
    assert max(len(one.ids) for one in windows) == 16


def test_rows_that_are_too_long_are_dropped_by_name_or_refused_as_the_plan_says():
    rows = [tiny.row("hi", "ho", line=1), tiny.row("hi", "o" * 100, line=2)]
    dropping, refusing = limits(), limits(too_long="refuse")
    found = data.examples(tiny.tokenizer(), rows, dropping)
    data.check_lengths(found, dropping)

    assert (len(found.kept), found.dropped) == (1, ("data.jsonl:2",))
    with pytest.raises(DatasetError, match="longer than 64 tokens"):
        data.check_lengths(found, refusing)


def test_a_run_of_which_every_row_is_too_long_is_refused():
    found = data.examples(tiny.tokenizer(), [tiny.row("hi", "o" * 100)], limits())

    with pytest.raises(DatasetError, match="longer than 64 tokens"):
        data.check_lengths(found, limits())


def test_lines_that_are_not_rows_are_all_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    good = tiny.row("hi", "ho").model_dump_json(exclude_none=True)
    path.write_text(f'{good}\n{{"kind": "sft"}}\nnot json\n', encoding="utf-8")

    with pytest.raises(DatasetError) as caught:
        data.read_rows(path)

    assert [place.split(": ")[0] for place in caught.value.places] == ["rows.jsonl:2", "rows.jsonl:3"]


def test_a_prompt_ends_where_the_answer_begins():
    tokenizer = tiny.tokenizer()

    ids = data.prompt_ids(tokenizer, [Turn(role="user", content="hi")])

    assert tokenizer.decode(ids) == "<|bos|><|user|> hi<|end|><|assistant|>"
