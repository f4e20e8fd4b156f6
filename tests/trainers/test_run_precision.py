"""Whole runs: exact weights through stop and resume, memory that runs out, a loss that rises, a recipe that is refused."""

import pytest
import test_run
import tiny
import torch
from safetensors.torch import load_file
from test_run import events, go, last, losses, report

from recipes.exits import Exit
from recipes.plan import Full, Lora, Predicted
from trainers.checkpoints import protocol
from trainers.run import equip, session

at_step = test_run.at_step
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # peft on new transformers


def sixteen_bit(home, **schedule):
    plan = tiny.plan(home, adaptation=Full(), epochs=1.0, learning_rate=1e-5, **schedule)
    return plan.model_copy(update={"model": plan.model.model_copy(update={"dtype": "bfloat16"})})


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit"])
def test_exact_weights_resume_bit_for_bit_with_the_bits_that_the_model_does_not_hold(
    home, at_step, optimizer
):
    plan = sixteen_bit(home, optimizer=optimizer)
    go(home, plan, run="whole")
    at_step(3, (home / "run/control/stop").touch)
    stopped = go(home, plan)
    resumed = go(home, plan, resume=True)
    ends = [protocol.newest(home / run / "checkpoints").checkpoint.path for run in ("whole", "run")]
    whole, mine = (
        {name: tensor for file in path.glob("*.safetensors") for name, tensor in load_file(file).items()}
        for path in ends
    )

    assert (stopped, resumed) == (Exit.INTERRUPTED, Exit.OK)
    assert losses(home) == losses(home, "whole")
    assert any(name.startswith("low:") and bool(tensor.any()) for name, tensor in whole.items())
    assert whole.keys() == mine.keys()
    assert all(torch.equal(whole[name], mine[name]) for name in whole)


def test_memory_that_runs_out_in_a_step_is_told_with_its_facts_and_a_smaller_recipe_goes_on(
    home, monkeypatch
):
    plan = tiny.plan(home, accumulation=2).model_copy(update={"predicted": Predicted(peak_bytes=2**20)})
    real, calls = equip.sft, []

    def full(policy, batch):
        calls.append(batch)
        if len(calls) == 7:  # in the fourth step
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has ...")
        return real(policy, batch)

    with monkeypatch.context() as patch:
        patch.setattr(equip, "sft", full)
        code = go(home, plan)
    fact, ending = events(home)[-2:]
    smaller = tiny.plan(home, accumulation=4, micro_batch_tokens=64)
    refused, kept = go(home, smaller, resume=True), (home / "run/recipe.toml").read_text()
    accepted = go(home, smaller, resume=True, accept=True)
    training = report(home).training

    assert (code, ending["code"], ending["exit"]) == (Exit.ENVIRONMENT, "T0402", 4)
    assert (fact["type"], fact["step"], fact["phase"]) == ("oom", 3, "train")
    assert (fact["requested"], fact["predicted"]) == (3 * 2**29, 2**20)
    assert {"alloc", "reserved", "free"} <= fact.keys()
    assert (refused, accepted) == (Exit.USAGE, Exit.OK)
    assert "micro_batch_tokens = 128" in kept  # a recipe that was refused is not the run's
    assert "micro_batch_tokens = 64" in (home / "run/recipe.toml").read_text()
    assert "schedule.micro_batch_tokens: 128 -> 64" in training.changes
    assert next(e["resumed_from"] for e in reversed(events(home)) if e.get("resumed_from")) == 2


def test_a_loss_that_rises_is_told_and_stands_in_the_report(home, monkeypatch):
    plan = tiny.plan(home, epochs=30.0, micro_batch_tokens=512, learning_rate=1e-3, save_every_steps=500)
    real = session._advanced

    def rising(progress, step, peak):
        shown = step.loss if step.number < 40 else step.loss + 5
        return real(progress, session.replace(step, loss=shown), peak)

    monkeypatch.setattr(session, "_advanced", rising)
    code = go(home, plan.model_copy(update={"schedule": plan.schedule.model_copy(update={"max_steps": 55})}))
    warned = [event for event in events(home) if event.get("code") == "T0101"]

    assert code == Exit.OK  # it warns and never stops
    assert len(warned) == 1
    assert "the loss rises" in warned[0]["msg"]
    assert 40 < report(home).training.risen_at[0] < 55


def test_moments_of_another_optimizer_begin_anew_if_the_change_is_accepted(home, at_step):
    plan = sixteen_bit(home)
    at_step(3, (home / "run/control/stop").touch)
    go(home, plan)
    code = go(home, sixteen_bit(home, optimizer="adamw_8bit"), resume=True, accept=True)

    assert code == Exit.OK
    assert any(event.get("code") == "T0102" for event in events(home))
    assert "schedule.optimizer: adamw -> adamw_8bit" in report(home).training.changes
    assert last(home)["type"] == "done"


def test_a_library_that_is_new_is_not_a_change_of_the_recipe(home, at_step):
    at_step(3, (home / "run/control/stop").touch)
    go(home, tiny.plan(home, adaptation=Lora(rank=4)))

    assert go(home, tiny.plan(home, adaptation=Lora(rank=4)), resume=True) == Exit.OK
    assert report(home).training.changes == ()


def test_what_only_a_gpu_can_do_is_said_on_a_cpu(home):
    plan = sixteen_bit(
        home,
        optimizer="paged_adamw_8bit",
        checkpointing=True,
        checkpointing_layers=2,
        checkpointing_offload=True,
    )
    code = go(home, plan)
    said = [event["values"]["wish"] for event in events(home) if event.get("code") == "T0103"]

    assert code == Exit.OK
    assert said == ["schedule.checkpointing_offload", 'schedule.optimizer = "paged_adamw_8bit"']
