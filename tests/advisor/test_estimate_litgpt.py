"""Estimates of litgpt's own blocks against peaks that its authors published, and what follows from the blocks' form."""

import pytest

from advisor.catalog.models import model
from advisor.estimate import litgpt
from advisor.estimate.memory import estimate
from advisor.estimate.setup import Unsupported
from advisor.estimate.shapes import parameters
from advisor.estimate.spec import described

PHI = {"model": "microsoft/phi-1_5", "seq_len": 1044}
STABLE = {"model": "stabilityai/stablelm-base-alpha-3b", "seq_len": 1034}
LORA = {"method": "lora", "lora_rank": 8, "lora_targets": ["q_proj", "v_proj"], "lora_dropout": 0.05}
NF4 = {"quant": "nf4", "optimizer": "paged_adamw"}
ADAPTER = {"method": "other", "method_detail": "llama-adapter"}
ADAPTER_V2 = {"method": "other", "method_detail": "llama-adapter v2"}


def record(**fields):
    rest = {
        "micro_batch": 1,
        "weights_dtype": "bf16",
        "grad_ckpt": False,
        "loss": "chunked",
        "optimizer": "adamw",
    }
    return {**rest, "profile": "litgpt", **fields}


@pytest.mark.parametrize(
    ("fields", "published"),
    [
        (PHI | LORA, 4.82),
        (PHI | LORA | {"micro_batch": 4}, 10.68),
        (PHI | LORA | NF4, 3.78),
        (STABLE | LORA, 9.69),
        (STABLE | LORA | NF4 | {"quant": "nf4_dq"}, 6.19),
        (STABLE | ADAPTER, 9.10),
        (STABLE | ADAPTER | NF4, 5.65),
        (STABLE | ADAPTER_V2, 10.71),
        (STABLE | ADAPTER_V2 | NF4, 7.41),
    ],
)
def test_a_peak_of_the_resource_tables_is_met_within_half_a_percent(fields, published):
    found = estimate(described(record(**fields)))

    assert found.allocated / 1e9 == pytest.approx(
        published, rel=0.005
    )  # in decimal gigabytes, as they are printed


@pytest.mark.parametrize(
    "name", ["microsoft/phi-1_5", "microsoft/phi-2", "stabilityai/stablelm-base-alpha-3b"]
)
def test_weights_of_a_gelu_block_give_the_published_count_to_the_last_one(name):
    shape = model(name)

    assert parameters(shape) == shape.published_parameters


def test_the_head_is_a_matrix_of_its_own_even_where_the_checkpoint_ties_it():
    found = described(record(model="tiiuae/falcon-7b", seq_len=1079, **LORA | {"lora_targets": ["q_proj"]}))

    assert parameters(found.shape) == model("tiiuae/falcon-7b").published_parameters


def test_prompts_scales_and_norms_of_an_adapter_are_counted_to_the_last_one():
    shape = model("stabilityai/stablelm-base-alpha-3b")

    assert litgpt.adapter_weights(shape, litgpt.ADAPTER) == 573_888
    assert litgpt.adapter_weights(shape, litgpt.ADAPTER_V2) == 2_125_248


def test_in_another_trainers_code_a_gelu_block_stays_refused():
    with pytest.raises(Unsupported, match="no formula yet"):
        estimate(described(record(**PHI, **LORA, profile="hf-trainer")))


def test_a_method_that_litgpt_has_not_is_refused():
    with pytest.raises(Unsupported, match="waveft"):
        described(record(**PHI, method="other", method_detail="waveft"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "mistralai/Mixtral-8x7B-v0.1"}, "Mixtral"),
        ({"model": "Qwen/Qwen3-8B"}, "Qwen3"),
        ({"weights_dtype": "fp32"}, "float32"),
    ],
)
def test_what_was_not_read_of_its_code_is_refused_by_name(change, named):
    with pytest.raises(Unsupported, match=named):
        described(record(**PHI | LORA | change))


def test_dropout_keeps_a_mask_and_a_copy_of_what_it_dropped():
    without, with_it = (estimate(described(record(**PHI, **LORA | {"lora_dropout": p}))) for p in (0.0, 0.05))

    assert (
        with_it.allocated - without.allocated == 24 * 1044 * 2048
    )  # one byte more: the input is kept either way


def test_an_rms_norm_keeps_its_input_in_fp32():
    shape = {"model": "meta-llama/Llama-2-7b-hf", "seq_len": 1024}
    found = described(record(**shape, **LORA))
    kept = litgpt.block(found)

    hidden, width = found.shape.hidden, found.shape.mlp
    lora = 3 * hidden + 4 * hidden + 2 * 2 * 8
    assert kept == 2 * (4 * hidden + 4) + 2 * 6 * hidden + 4 * 32 + 3 * 2 * width + lora
