"""Whole runs of whatever transformers can load, and of every adaptation across a stop."""

import json

import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from recipes.exits import Exit
from recipes.plan import Full, LastLayers, Lora, Model
from recipes.report import Report
from trainers.run import session, train
from trainers.run.equip import equip

SMALL = {
    "vocab_size": 266,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),  # peft on new transformers
]  # fmt: skip


@pytest.fixture
def base(tmp_path):
    """Write a base of a kind; the recipe's directory."""

    def make(kind, **changes):
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, **{**SMALL, **changes})
        tiny.write_model(tmp_path / "base", AutoModelForCausalLM.from_config(config))
        return tmp_path

    return make


def go(home, plan, *, resume=False, run="run"):
    return train(tiny.write_recipe(home, plan), home / run, resume=resume, accept_changes=False)


def events(home, run="run"):
    return [json.loads(line) for line in (home / run / "events.jsonl").read_bytes().splitlines()]


def warned(home):
    return {event["code"] for event in events(home) if event["type"] == "warn"}


def losses(home, run="run"):
    return {event["step"]: event["loss"] for event in events(home, run) if event["type"] == "step"}


@pytest.mark.parametrize("adaptation", [Full(), Lora(rank=4, alpha=8.0)], ids=["full", "lora"])
@pytest.mark.parametrize(
    "kind, changes",
    [
        ("gemma2", {"head_dim": 16, "sliding_window": 9}),  # soft caps: neither packed nor sdpa
        ("gpt_oss", {"head_dim": 16, "num_local_experts": 4}),  # attention sinks
        ("granite", {"logits_scaling": 3.0}),
    ],
)
def test_a_model_that_goes_document_by_document_goes_all_the_way(base, kind, changes, adaptation):
    home = base(kind, **changes)

    assert go(home, tiny.plan(home, adaptation=adaptation, max_steps=4, learning_rate=1e-2)) == Exit.OK
    assert "M0101" in warned(home)
    training = Report.model_validate_json((home / "run/report.json").read_bytes()).training
    assert training.last_loss < training.first_loss


@pytest.mark.parametrize(
    "kind, changes",
    [
        ("mistral", {"sliding_window": 9}),
        ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 4}),  # dropout, Conv1D, learned positions
    ],
)
def test_windows_dropout_and_learned_positions_are_trained_packed(base, kind, changes):
    home = base(kind, **changes)

    assert go(home, tiny.plan(home, max_steps=4, learning_rate=1e-2)) == Exit.OK
    assert "M0101" not in warned(home)


def test_a_row_beyond_what_the_model_can_read_is_refused_before_training(base):
    home = base("gpt2", n_embd=64, n_layer=2, n_head=4, max_position_embeddings=24)

    assert go(home, tiny.plan(home)) == Exit.USAGE
    assert "the model reads 24" in events(home)[-1]["places"][0]
    assert not losses(home)


def test_what_is_left_out_of_a_mixture_of_experts_is_told(base):
    home = base("mixtral", num_local_experts=4)

    assert go(home, tiny.plan(home, max_steps=2)) == Exit.OK
    assert warned(home) == {"M0103", "M0104"}


@pytest.mark.parametrize("functions, told", [("ours", {"M0104"}), ("stock", set())])
def test_layers_that_our_functions_do_not_fit_are_named_and_the_switch_turns_all_of_them_off(
    base, functions, told, monkeypatch
):
    equipped = []
    monkeypatch.setattr(session, "equip", lambda *given: equipped.append(equip(*given)) or equipped[0])
    home = base("stablelm")
    plan = tiny.plan(home, max_steps=2)
    layout = plan.layout.model_copy(update={"functions": functions})

    assert go(home, plan.model_copy(update={"layout": layout})) == Exit.OK
    assert warned(home) - {"M0101"} == told
    ours = {
        type(m).__name__ for m in equipped[0].policy.model.modules() if type(m).__name__.startswith("Fast")
    }
    assert ours == ({"FastLinear", "FastStableLmMLP"} if told else set())


@pytest.mark.parametrize(
    "adaptation",
    [LastLayers(layers=1), Full(), Lora(base="nf4", rank=4), Lora(rank=4, dropout=0.2)],
    ids=["last_layers", "full", "nf4", "dropout"],
)
def test_a_resume_is_bit_for_bit_the_same_whatever_is_adapted(home, monkeypatch, adaptation):
    plan = tiny.plan(home, adaptation=adaptation, max_steps=5)
    whole = go(home, plan, run="whole")
    real = session._tell

    def stop_at_three(course, step, progress):
        real(course, step, progress)
        if step.number == 3:
            (home / "run/control/stop").touch()

    with monkeypatch.context() as patch:
        patch.setattr(session, "_tell", stop_at_three)
        stopped = go(home, plan)
    resumed = go(home, plan, resume=True)
    saved = {
        run: {
            path.relative_to(home / run): path.read_bytes()
            for where in ("output", "checkpoints/step-00000005")
            for path in (home / run / where).glob("*.safetensors")
        }
        for run in ("whole", "run")
    }

    assert (whole, stopped, resumed) == (Exit.OK, Exit.INTERRUPTED, Exit.OK)
    assert losses(home) == losses(home, "whole")
    assert len(saved["run"]) == 3
    assert saved["run"] == saved["whole"]


def test_half_precision_that_would_break_the_optimizer_is_refused(home):
    plan = tiny.plan(home, adaptation=Full())
    plan = plan.model_copy(update={"model": Model(id="base", dtype="float16")})

    assert go(home, plan) == Exit.USAGE
    assert "float16" in events(home)[-1]["places"][0]
