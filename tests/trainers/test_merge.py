"""Merging: one whole model that says what base and adapter said; what cannot be merged is refused with the reason."""

import json

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from recipes.exits import Exit
from recipes.plan import Bottleneck, Full, Ia3, LastLayers, Lora, Model, Prefix, PromptTuning, PTuning
from trainers.__main__ import main
from trainers.adapt import adapt
from trainers.policy import load, save, with_model
from trainers.run.merge import RECEIPT, merge

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning", "ignore:Merge lora module to .*-bit:UserWarning"
)


def ran(home, plan, dtype="float32"):
    """A run directory with an adapter that says something, as a finished run leaves it."""
    made = tiny.plan(home, adaptation=plan).model_copy(
        update={"model": Model(id=str(home / "base"), dtype=dtype)}
    )
    run = home / "run"
    run.mkdir()
    tiny.write_recipe(run, made)
    policy = load(made.model, home, CPU, plan)
    policy = with_model(policy, adapt(policy.causal, plan, seed=0, home=home).model)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in policy.model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.05)
    save(policy, run / "output")
    return run, policy


def apart(policy, out):
    """The largest difference of a logit between base + adapter and the merged model, loaded by plain transformers."""
    ids = torch.randint(200, (2, 30), generator=torch.Generator().manual_seed(4))
    whole = AutoModelForCausalLM.from_pretrained(out, dtype=policy.causal.dtype).eval()
    with torch.no_grad():
        pair = policy.model.eval()(input_ids=ids).logits, whole(input_ids=ids).logits
    return float((pair[0].float() - pair[1].float()).abs().max())


@pytest.mark.parametrize(
    "plan", [Lora(rank=4), Lora(rank=4, rslora=True, name="voice"), Lora(rank=4, dora=True), Ia3()],
    ids=["lora", "rslora", "dora", "ia3"],
)  # fmt: skip
def test_merged_is_base_and_adapter(home, plan):
    run, policy = ran(home, plan)
    found = merge(run, home / "whole")

    assert apart(policy, home / "whole") < 1e-4
    assert found.difference < 1e-4
    assert found.base_was == "dense"
    assert json.loads((home / "whole" / RECEIPT).read_text())["difference"] == found.difference
    assert AutoTokenizer.from_pretrained(home / "whole").eos_token == "<|end|>"


@pytest.mark.parametrize(
    "plan", [Lora(base="nf4", rank=4), Lora(base="nf4", rank=4, dora=True)], ids=["qlora", "qdora"]
)
@pytest.mark.parametrize("dtype, lost", [("float32", 1e-4), ("bfloat16", 0.1)])
def test_a_4_bit_base_is_made_dense_and_what_is_lost_is_said(home, plan, dtype, lost):
    run, policy = ran(home, plan, dtype)
    found = merge(run, home / "whole")

    assert found.base_was == "nf4"
    assert 0 <= found.difference < lost
    assert apart(policy, home / "whole") < lost
    assert "quantization_config" not in json.loads((home / "whole/config.json").read_text())


def test_an_8_bit_base_loses_what_its_rounded_inputs_were(home):
    run, policy = ran(home, Lora(base="int8", rank=4))
    found = merge(run, home / "whole")

    assert 0 < found.difference < 0.1
    assert apart(policy, home / "whole") < 0.1


def test_an_adapter_by_itself_names_its_base(home):
    run, policy = ran(home, Lora(rank=4))
    (run / "recipe.toml").unlink()

    assert main(["merge", str(run / "output"), "--out", str(home / "whole")]) == Exit.OK
    assert apart(policy, home / "whole") < 1e-4


def test_adapters_on_adapters_are_merged_together(home):
    below, _ = ran(home, Lora(rank=4, name="below"))
    below.rename(home / "first")
    run, policy = ran(home, Lora(rank=2, name="above", beneath=("first/output/below",)))
    found = merge(run, home / "whole")

    assert len(found.adapters) == 2
    assert apart(policy, home / "whole") < 1e-4


@pytest.mark.parametrize(
    "plan, reason",
    [
        (Full(), "a whole model already"),
        (LastLayers(layers=1), "a whole model already"),
        (Bottleneck(width=16), "a function stands between"),
        (Prefix(), "input of the model, not weights"),
        (PTuning(), "input of the model, not weights"),
        (PromptTuning(), "input of the model, not weights"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_what_cannot_be_merged_is_refused_with_the_reason(home, capsys, plan, reason):
    run, _ = ran(home, plan)

    for source in (run, run / "output"):
        assert main(["merge", str(source), "--out", str(home / "whole")]) == Exit.USAGE
        assert reason in capsys.readouterr().err
    assert not (home / "whole").exists()


def test_an_adapter_of_another_base_is_refused(home, capsys):
    run, _ = ran(home, Lora(rank=4))
    said = json.loads((run / "output/base.json").read_text())
    (run / "output/base.json").write_text(json.dumps({**said, "sum": "0" * 64}))

    assert main(["merge", str(run), "--out", str(home / "whole")]) == Exit.USAGE
    assert "trained on another base" in capsys.readouterr().err


def test_nothing_is_overwritten(home, capsys):
    run, _ = ran(home, Lora(rank=4))
    (home / "whole").mkdir()
    (home / "whole/mine").touch()

    assert main(["merge", str(run), "--out", str(home / "whole")]) == Exit.USAGE
    assert "not an empty directory" in capsys.readouterr().err
    assert [path.name for path in (home / "whole").iterdir()] == ["mine"]
    assert main(["merge", str(home / "nowhere"), "--out", str(home / "other")]) == Exit.USAGE
    assert "neither a run" in capsys.readouterr().err
