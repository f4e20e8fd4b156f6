"""The closed form and the dry run agree on a few configurations; `benchmarks/dry_run.py` has many more.

The trainers and the advisor never import each other; this test, which stands outside of both, may.
"""

import pytest

from advisor.catalog.models import model
from advisor.estimate.memory import estimate
from advisor.estimate.setup import setup
from advisor.run.dry_config import config
from recipes.plan import Data, Full, LastLayers, Layout, Lora, Model, Plan, Schedule
from trainers.dryrun import dry_run

AGREE = 0.02

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft


@pytest.mark.parametrize(
    ("name", "adaptation", "changes", "functions"),
    [
        ("Qwen/Qwen3-8B", Lora(), {}, "ours"),
        ("meta-llama/Llama-3.2-1B", Lora(base="nf4"), {"checkpointing": True}, "ours"),
        ("mistralai/Mistral-7B-v0.3", Lora(targets=("q_proj", "v_proj")), {"accumulation": 2}, "stock"),
        ("google/gemma-3-1b-it", Full(), {"checkpointing": True}, "ours"),
        ("Qwen/Qwen3-4B", Lora(dropout=0.05), {}, "ours"),
        ("mistralai/Mistral-7B-v0.3", Lora(dropout=0.05, base="nf4"), {"checkpointing": True}, "ours"),
        ("mistralai/Mistral-7B-v0.3", Lora(dropout=0.05, dora=True), {"checkpointing": True}, "ours"),
        ("meta-llama/Llama-3.2-1B", Lora(dora=True), {"checkpointing": True}, "stock"),
        ("microsoft/Phi-3-mini-4k-instruct", LastLayers(layers=4), {"checkpointing": True}, "ours"),
    ],
)
def test_the_closed_form_says_what_the_trainer_s_own_steps_need(name, adaptation, changes, functions):
    files = {"train": "t", "train_sha256": "0" * 64, "held_out": "h", "held_out_sha256": "0" * 64}
    plan = Plan(
        name="panel",
        model=Model(id=name),
        adaptation=adaptation,
        data=Data(**files, length_tokens=2048),
        schedule=Schedule(epochs=1, micro_batch_tokens=4096, learning_rate=1e-4, **changes),
        layout=Layout(device="cuda", functions=functions),
    )
    closed = estimate(setup(plan, model(name), None))
    dry = dry_run(plan, config(model(name)))

    assert closed.allocated == pytest.approx(dry.allocated, rel=AGREE), (closed.candidates, dry.moments)
