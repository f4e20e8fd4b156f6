"""The rules of thumb that an advice stands on, before a model is known, beside what the estimate says of models."""

import pytest

from advisor.catalog.models import model
from advisor.decide import predicates as p
from advisor.estimate.memory import estimate
from advisor.estimate.profiles import NATIVE, profile
from advisor.estimate.shapes import parameters
from advisor.plan.fits import configuration


def at_most(name, method):
    wanted = {"seq_tokens": 2048, "micro_batch": 1, "used": profile(NATIVE), "checkpointing": True}
    return estimate(configuration(model(name), method, **wanted)).process.high / 1e9


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen3-4B", "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-14B", "Qwen/Qwen3-32B"]
)
@pytest.mark.parametrize(
    ("method", "each", "near"),
    [("full", p.FULL_BYTES, 0.07), ("lora", p.LORA_BYTES, 0.15), ("qlora", p.QLORA_BYTES, 0.30)],
)
def test_a_rule_of_thumb_is_near_the_upper_bound_of_the_estimate(name, method, each, near):
    asked = p.needed_gb(parameters(model(name)) / 1e9, each)

    assert asked == pytest.approx(at_most(name, method), rel=near)
