"""The arms of the embedded example, judged: what a base model of two million parameters can and cannot do."""

from dataclasses import dataclass

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from advisor.learn.lantern.base import base_dir
from advisor.learn.lantern.tasks import task
from recipes.plan import Evaluation
from recipes.rows import Check, Row, Source, Turn
from trainers.data import masked
from trainers.errors import DatasetError
from trainers.evaluate import chosen, judge
from trainers.evaluate.answers import BUDGET_TOKENS, answer, end_ids
from trainers.evaluate.likelihood import read
from trainers.evaluate.padding import by_length


@dataclass(frozen=True)
class Policy:
    model: object
    tokenizer: object
    device: torch.device


@pytest.fixture(scope="module")
def policy():
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(base_dir(), dtype=torch.float32)
    return Policy(model, AutoTokenizer.from_pretrained(base_dir()), torch.device("cpu"))


def text(words, group="book"):
    source = Source(file="a.txt", line=1, format="text", group=group)
    return Row(kind="text", messages=(Turn(role="assistant", content=words),), source=source)


def silent(name, done, total):
    """Hear the progress and say nothing."""


def scores(outcomes):
    return {o.arm.name: {name: rate.value for name, rate in o.arm.scores.items()} for o in outcomes}


def test_the_base_knows_the_facts_and_neither_prompt_nor_examples_give_it_the_voice(policy):
    voice = task("voice")
    heard = []
    evaluation = Evaluation(
        rows=24,
        max_new_tokens=40,
        prompt=voice.prompt,
        few_shot_prompt=voice.few_shot_prompt,
        primary="style",
    )

    outcomes = judge(
        policy, voice.held_out, voice.train, evaluation, ("base", "prompt", "few_shot", "context"),
        lambda *said: heard.append(said),
    )  # fmt: skip
    found = scores(outcomes)

    assert list(found) == ["base", "prompt", "few_shot"]
    assert all(arm["style"] == 0 and arm["stopped"] == 1 for arm in found.values())
    assert found["base"]["fact"] > 0.9
    assert outcomes[2].arm.shots == 3
    assert outcomes[0].arm.prompt_tokens < outcomes[1].arm.prompt_tokens < outcomes[2].arm.prompt_tokens
    assert outcomes[0].arm.nll.value > outcomes[2].arm.nll.value > 0
    assert heard[0] == ("base", 0, 24)
    assert heard[-1] == ("few_shot", 24, 24)


def test_a_fresh_fact_is_known_only_with_its_passage(policy):
    facts = task("facts")
    evaluation = Evaluation(rows=24, max_new_tokens=40, primary="fact")

    found = scores(judge(policy, facts.held_out, facts.train, evaluation, ("base", "context"), silent))

    assert found["base"]["fact"] < 0.3
    assert found["context"]["fact"] > 0.9


def test_a_batch_answers_what_its_rows_answer_alone(policy):
    prompts = [list(masked(policy.tokenizer, row).ids[:9]) for row in task("voice").held_out[:4]]
    prompts += [prompts[0][:4], prompts[1] * 5]

    def said(rows):
        return answer(policy, rows, ends=end_ids(policy), limit=12, on_rows=lambda _: None)

    assert said(prompts) == tuple(said([prompt])[0] for prompt in prompts)


def test_padding_changes_no_likelihood(policy):
    rows = [
        masked(policy.tokenizer, row) for row in (*task("voice").held_out[:3], *task("ticket").held_out[:3])
    ]

    together = read(policy, rows).rows
    alone = [read(policy, [row]).rows[0] for row in rows]

    assert [row.tokens for row in together] == [sum(row.trained) for row in rows]
    assert [row.nats for row in together] == pytest.approx([row.nats for row in alone], rel=1e-4)


def test_the_likelihood_is_that_of_a_plain_forward(policy):
    example = masked(policy.tokenizer, task("voice").held_out[0])
    ids = torch.tensor([example.ids])
    with torch.no_grad():
        log = policy.model(input_ids=ids).logits[0].log_softmax(-1)
    wanted = -sum(log[i - 1, t].item() for i, t in enumerate(example.ids) if example.trained[i])

    assert read(policy, [example]).rows[0].nats == pytest.approx(wanted, rel=1e-4)


def test_only_the_last_answer_of_a_conversation_counts(policy):
    row = task("voice").held_out[0]
    longer = row.model_copy(
        update={"messages": (*row.messages[:-1], Turn(role="assistant", content="So."), *row.messages)}
    )

    (outcome,) = judge(policy, [longer], [], Evaluation(primary="nll", max_new_tokens=1), ("base",), silent)

    assert outcome.per_row["nll_tokens"] == (float(sum(masked(policy.tokenizer, row).trained)),)


def test_plain_text_is_read_in_windows_and_every_token_counts_once(policy):
    row = text("The blue lamp stands on shelf H6. " * 200)
    tokens = len(masked(policy.tokenizer, row).ids)

    (outcome,) = judge(
        policy, [row], [row], Evaluation(primary="nll"), ("base", "prompt", "few_shot"), silent
    )

    assert tokens > policy.model.config.max_position_embeddings
    assert outcome.per_row["nll_tokens"] == (float(tokens - 1),)
    assert (outcome.arm.name, outcome.arm.scores, outcome.arm.samples) == ("base", {}, ())


def test_the_model_comes_back_as_it_was(policy):
    policy.model.train()

    judge(policy, task("voice").held_out[:1], [], Evaluation(max_new_tokens=2), ("base",), silent)

    assert policy.model.training
    assert all(parameter.requires_grad for parameter in policy.model.parameters())
    policy.model.eval()


def test_examples_that_do_not_fit_into_the_context_are_left_out(policy):
    row = task("voice").held_out[0]
    long = [text("x", group=str(i)) for i in range(3)]
    words = "The blue lamp stands on shelf H6. " * 22
    turns = (Turn(role="user", content=words), Turn(role="assistant", content="Yes."))
    train = [replaced.model_copy(update={"kind": "sft", "messages": turns}) for replaced in long]

    (outcome,) = judge(policy, [row], train, Evaluation(max_new_tokens=8), ("few_shot",), silent)

    assert 0 < outcome.arm.shots < 3
    assert outcome.arm.prompt_tokens < policy.model.config.max_position_embeddings


def test_the_same_rows_are_judged_every_time():
    rows = [text(str(i), group=str(i)) for i in range(50)]

    assert chosen(rows, 10) == chosen(rows, 10)
    assert len(chosen(rows, 10)) == 10
    assert chosen(rows, 60) == tuple(rows)
    assert chosen(rows, 10) != tuple(rows[:10])


def test_a_primary_score_that_no_row_has_is_refused_before_anything_is_asked(policy):
    voice = task("voice")

    with pytest.raises(DatasetError, match="manners") as refused:
        judge(policy, voice.held_out, voice.train, Evaluation(primary="manners"), ("base",), silent)

    assert "style" in refused.value.values["known"]


def test_a_check_cannot_take_the_name_of_a_score(policy):
    row = task("voice").held_out[0]
    named = row.model_copy(update={"checks": (Check(name="exact", kind="contains", value="a"),)})

    with pytest.raises(DatasetError, match="exact"):
        judge(policy, [named], [], Evaluation(), ("base",), silent)


def test_nothing_to_judge_is_said(policy):
    with pytest.raises(DatasetError, match="held-out"):
        judge(policy, [], [], Evaluation(), ("base",), silent)


def test_batches_hold_their_budget_and_every_row_once():
    lengths = [3, 900, 5000, 20_000, 4, 5, 5000, 6]

    batches = list(by_length(lengths, BUDGET_TOKENS))

    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert batches[0] == [3]
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= BUDGET_TOKENS for b in batches)
