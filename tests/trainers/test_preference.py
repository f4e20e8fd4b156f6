"""The DPO step whose memory is measured is DPO: log-probabilities, loss and gradients, by definition and in small."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model

from advisor.catalog.models import model
from advisor.estimate.memory import estimate
from advisor.estimate.setup import setup
from advisor.run.dry_config import config
from recipes.plan import Data, Full, Layout, Lora, Model, Plan, Schedule
from trainers import batches, data
from trainers.dryrun import dry_run
from trainers.policy import Policy
from trainers.policy.forward import packed_nll, packed_rows
from trainers.policy.source import Source

AGREE = 0.01
CPU = torch.device("cpu")
PAIRS = [((3, 4, 5, 6), (7, 8, 9)), ((10, 11, 12), (13, 14, 15, 16, 17))]

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft


@pytest.fixture
def preference(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    yield __import__("preference")
    sys.modules.pop("preference", None)


def pairs(prompt=(1, 2)):
    row = tiny.row("a", "b")
    found = [data.Example((*prompt, *half), (False, False, *(True for _ in half)), row) for both in PAIRS for half in both]  # fmt: skip
    return batches.flatten(found, CPU)


def policy(made):
    return Policy(made, None, CPU, packed_nll, Source(Path(), None))


def adapted(seed=0):
    made = get_peft_model(tiny.model(seed), LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    return made.train()


def by_definition(causal, row):
    """Sums of log-probabilities from the model's own logits, document by document."""
    found = []
    for start, stop in row.spans:
        ids = row.ids_1T[:, start:stop]
        logp = causal(ids).logits[0, :-1].log_softmax(-1)
        found.append(logp.gather(1, ids[0, 1:, None])[1:, 0].sum())  # the prompt is two tokens
    return torch.stack(found)


def test_each_document_has_the_log_probability_of_its_answer(preference):
    made, row = tiny.model(), pairs()
    with packed_rows(made), torch.no_grad():
        found = preference.documents(made, row)
    with torch.no_grad():
        torch.testing.assert_close(found, by_definition(made, row), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("moves", [True, False])
def test_the_head_gives_the_gradients_of_log_softmax_over_several_chunks(preference, moves):
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 8, generator=generator) for n in (7, 11))
    target, up = torch.arange(7), torch.randn(7, generator=generator)
    of = [hidden.requires_grad_(), *([weight.requires_grad_()] if moves else [])]

    ours = preference.label_logprobs(hidden, weight, target, 3)
    plain = (hidden @ weight.t()).log_softmax(-1).gather(1, target[:, None])[:, 0]

    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(torch.autograd.grad(ours, of, up), torch.autograd.grad(plain, of, up))


@pytest.mark.parametrize("reference", ["adapter_off", "copy"])
def test_a_policy_that_has_not_moved_loses_log_2_a_pair(preference, reference):
    made = adapted() if reference == "adapter_off" else tiny.model()
    objective, row = preference.dpo(reference)(policy(made)), pairs()
    with packed_rows(policy(made).causal):
        loss = objective(row)

    assert (float(loss.total.detach()), loss.count) == (pytest.approx(2 * math.log(2), rel=1e-5), 2)


def test_a_policy_that_has_moved_is_held_against_the_model_before(preference):
    made, row = tiny.model(), pairs()
    objective = preference.dpo("copy")(policy(made))
    with torch.no_grad():
        before = by_definition(made, row)
        made.lm_head.weight.mul_(1.5)
        after = by_definition(made, row)
    with packed_rows(made):
        loss = objective(row).total
        loss.backward()
    rewards = 0.1 * (after - before)
    wanted = -torch.nn.functional.logsigmoid(rewards[0::2] - rewards[1::2]).sum()

    torch.testing.assert_close(loss.detach(), wanted, rtol=1e-4, atol=1e-5)
    assert all(p.grad is not None for p in made.parameters())


def test_an_adapter_that_has_moved_is_switched_off_for_the_reference_and_learns(preference):
    made, row = adapted(), pairs()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
    here = policy(made)
    with packed_rows(here.causal):
        loss = preference.dpo("adapter_off")(here)(row).total
        loss.backward()
    with torch.no_grad():
        after = by_definition(here.causal, row)
        with made.disable_adapter():
            before = by_definition(here.causal, row)
    rewards = 0.1 * (after - before)
    wanted = -torch.nn.functional.logsigmoid(rewards[0::2] - rewards[1::2]).sum()

    torch.testing.assert_close(loss.detach(), wanted, rtol=1e-4, atol=1e-5)
    assert all((p.grad is not None) == p.requires_grad for p in made.parameters())


def test_a_step_is_counted_in_pairs(preference):
    row = pairs()
    group = batches.Group(step=1, batches=[row, row], count=30, tokens=2 * row.tokens, places=())

    assert preference.in_pairs(group).count == 4


@pytest.mark.parametrize(
    ("name", "adaptation", "reference", "checkpointing"),
    [
        ("meta-llama/Llama-3.1-8B", Lora(base="nf4"), "adapter_off", True),
        ("Qwen/Qwen3-0.6B", Lora(), "adapter_off", False),
        ("meta-llama/Llama-3.2-1B", Full(), "copy", True),
    ],
)
def test_the_closed_form_says_what_such_a_step_needs(preference, name, adaptation, reference, checkpointing):
    files = {"train": "t", "train_sha256": "0" * 64, "held_out": "h", "held_out_sha256": "0" * 64}
    plan = Plan(
        name="pairs",
        model=Model(id=name),
        adaptation=adaptation,
        data=Data(**files, length_tokens=2048),
        schedule=Schedule(epochs=1, micro_batch_tokens=8192, learning_rate=1e-4, checkpointing=checkpointing),
        layout=Layout(device="cuda"),
    )
    given = replace(
        setup(plan, model(name), None), objective="dpo", reference=reference, micro_batch_tokens=4096
    )
    dry = dry_run(plan, config(model(name)), objective=preference.dpo(reference))

    assert estimate(given).allocated == pytest.approx(dry.allocated, rel=AGREE)
