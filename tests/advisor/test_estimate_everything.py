"""Every adaptation, optimizer, objective and sharding: what must hold for all of them; profiles by what a record says."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.catalog.models import ModelShape, model
from advisor.catalog.sources import sources
from advisor.errors import BadValue
from advisor.estimate.cheaper import cheaper
from advisor.estimate.memory import estimate, fit, weights
from advisor.estimate.optimizers import optimizers
from advisor.estimate.profiles import heads, profile, profiles
from advisor.estimate.setup import Setup, Unsupported
from advisor.estimate.shapes import trained_parameters
from advisor.estimate.spec import described
from advisor.show.batch import answer
from advisor.units import GIB
from recipes.plan import (
    Bottleneck,
    Full,
    Ia3,
    LastLayers,
    Lora,
    Named,
    Prefix,
    PromptTuning,
    PTuning,
)

SHAPE = ModelShape(
    "a model of 8 blocks",
    layers=8,
    hidden=1024,
    heads=16,
    kv_heads=4,
    head_width=64,
    mlp=2816,
    vocabulary=32_000,
    tied=False,
    block="llama",
    estimator="closed_form",
    verified=True,
)
ADAPTATIONS = st.sampled_from(
    [
        Full(),
        LastLayers(layers=2),
        Named(patterns=("model.layers.*.mlp.*",)),
        Lora(),
        Lora(dora=True),
        Lora(dropout=0.1),
        Lora(base="nf4"),
        Lora(base="int8"),
        Bottleneck(),
        Prefix(),
        PTuning(),
        PromptTuning(),
        Ia3(),
    ]
)
SETUPS = st.builds(
    Setup,
    shape=st.builds(
        replace, st.just(SHAPE), tied=st.booleans(), block=st.sampled_from(["llama", "qwen3", "glm4"])
    ),
    adaptation=ADAPTATIONS,
    profile=st.sampled_from(list(profiles().values())),
    micro_batch_tokens=st.integers(1, 40_000),
    longest_tokens=st.just(512),
    label_share=st.floats(0.01, 1.0),
    accumulates=st.booleans(),
    checkpointing=st.booleans(),
    checkpointing_layers=st.integers(1, 4),
    checkpointing_offload=st.booleans(),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    optimizer=st.sampled_from(["adamw", "adamw_8bit", "paged_adamw_8bit"]),
    objective=st.sampled_from(["sft", "dpo", "kto", "reward", "ppo", "grpo"]),
    reference=st.sampled_from(["none", "copy", "adapter_off"]),
    processes=st.integers(1, 8),
    sharding=st.sampled_from(["none", "zero1", "zero2", "zero3", "fsdp2"]),
)


def peak(found):
    return estimate(found).allocated


@given(SETUPS)
def test_terms_are_whole_bytes_and_sum_to_the_peak(found):
    done = estimate(found)

    assert done.allocated == sum(term.bytes for term in done.winner.terms)
    assert all(isinstance(term.bytes, int) and term.bytes > 0 for m in done.moments for term in m.terms)


@given(SETUPS, st.sampled_from(["hidden", "mlp", "layers", "vocabulary", "heads"]))
def test_a_larger_model_never_needs_less(found, dimension):
    larger = replace(found.shape, **{dimension: getattr(found.shape, dimension) * 2})

    assert peak(replace(found, shape=larger)) >= peak(found)


@given(SETUPS)
def test_longer_rows_and_more_of_them_never_need_less(found):
    longer = replace(found, longest_tokens=1024, micro_batch_tokens=found.micro_batch_tokens * 2)

    assert peak(replace(found, micro_batch_tokens=found.micro_batch_tokens + 512)) >= peak(found)
    assert peak(longer) >= peak(found)


@given(SETUPS, st.integers(1, 7))
def test_more_last_layers_never_need_less(found, layers):
    fewer, more = (replace(found, adaptation=LastLayers(layers=n)) for n in (layers, layers + 1))

    assert peak(more) >= peak(fewer)


@given(SETUPS)
def test_recomputing_never_needs_more_and_offloading_never_more_than_that(found):
    deep = replace(found, adaptation=Lora(), checkpointing_layers=1, checkpointing_offload=False)
    kept, again = replace(deep, checkpointing=False), replace(deep, checkpointing=True)

    assert peak(again) <= peak(kept)
    assert peak(replace(again, checkpointing_offload=True)) <= peak(again)


@given(SETUPS)
def test_4_bits_hold_no_more_than_8_and_8_no_more_than_16(found):
    four, eight, sixteen = (
        weights(replace(found, dtype="bfloat16", adaptation=Lora(base=base))).bytes
        for base in ("nf4", "int8", "dense")
    )

    assert four < eight < sixteen


@given(SETUPS, st.integers(2, 7))
def test_more_devices_never_need_more_on_each(found, devices):
    few, many = (replace(found, processes=n) for n in (devices, devices + 1))

    assert peak(many) <= peak(few)


@given(SETUPS)
def test_moments_of_8_bit_never_need_more(found):
    found = replace(found, sharding="none")

    assert peak(replace(found, optimizer="adamw_8bit")) <= peak(replace(found, optimizer="adamw"))
    assert peak(replace(found, optimizer="paged_adamw_8bit")) <= peak(replace(found, optimizer="adamw_8bit"))


@given(SETUPS)
def test_a_second_model_costs_what_it_weighs(found):
    alone, with_copy = (replace(found, objective="dpo", reference=word) for word in ("adapter_off", "copy"))
    found = {name: size for name, size in estimate(with_copy).candidates.items() if name != "load"}

    assert all(
        size - estimate(alone).candidates[name] == weights(alone).bytes for name, size in found.items()
    )


def test_what_each_adaptation_moves_is_counted_from_the_dimensions():
    counts = {
        Bottleneck(width=64): 8 * (2 * 1024 * 64 + 64 + 1024),
        Bottleneck(width=64, placement="houlsby"): 2 * 8 * (2 * 1024 * 64 + 64 + 1024),
        Prefix(virtual_tokens=50): 50 * 2 * 256 * 8,
        PromptTuning(virtual_tokens=20): 20 * 1024,
        Ia3(): 8 * (2 * 256 + 2816),
        Named(patterns=("model.norm.weight",)): 1024,
        Named(patterns=("model.layers.7.mlp.*",)): 3 * 1024 * 2816,
        Named(patterns=("*",)): trained_parameters(SHAPE, Full()),
    }

    assert {one: trained_parameters(SHAPE, one) for one in counts} == counts


def test_below_the_first_block_that_moves_nothing_is_kept():
    found = Setup(SHAPE, Full(), profile("native"), 4096, 4096)
    sizes = [
        next(term.bytes for term in moment.terms if term.name == "activations")
        for patterns in (("model.layers.7.*",), ("model.layers.0.*", "model.layers.7.*"))
        for moment in estimate(replace(found, adaptation=Named(patterns=patterns))).moments
        if moment.name == "loss"
    ]

    assert sizes[1] > 6 * sizes[0]


def test_patterns_that_name_no_weight_are_refused():
    with pytest.raises(BadValue, match="no weight"):
        peak(Setup(SHAPE, Named(patterns=("nothing.*",)), profile("native"), 64, 64))


def test_exact_weights_keep_two_bytes_more_and_moments_in_fp32():
    full = Setup(SHAPE, Full(), profile("native"), 64, 64)
    count = trained_parameters(SHAPE, Full())
    states = [
        next(
            term.bytes
            for term in estimate(replace(full, exact_weights=exact)).winner.terms
            if term.name == "optimizer"
        )
        for exact in (False, True)
    ]

    assert states == [4 * count, 10 * count]


def test_every_figure_names_a_source_of_the_bibliography():
    data = {one.source for table in (profiles(), heads(), optimizers()) for one in table.values()}
    setups = [
        Setup(SHAPE, adaptation, used, 512, 512, processes=2, sharding=sharding)
        for used in profiles().values()
        for adaptation in (Full(), Lora(base="nf4"))
        for sharding in ("none", "zero2", "fsdp2")
    ]
    terms = {term.source for one in setups for moment in estimate(one).moments for term in moment.terms}

    assert (data | terms) - {SHAPE.source} <= set(sources())


# --- records ---

PEFT = {
    "model": "meta-llama/Llama-3.2-3B",
    "method": "lora",
    "lora_rank": 32,
    "lora_targets": ["q_proj", "v_proj"],
    "seq_len": 745,
    "micro_batch": 4,
    "grad_ckpt": False,
    "weights_dtype": "bf16",
    "adapter_dtype": "fp32",
    "loss": "full_fp32_upcast",
    "mask_materialised": True,
    "optimizer": "adamw_foreach",
    "versions": {"transformers": "5.13.1"},
    "profile": "peft-method-comparison",
}


def test_adapters_through_plain_peft_need_what_a_card_showed():
    assert answer(PEFT)["peak_allocated_bytes"] / GIB == pytest.approx(20.76, rel=0.01)


@pytest.mark.parametrize(
    ("method", "changes", "gib"),
    [
        ("vera", {"lora_rank": 256, "trainable_params": 129_024}, 20.14),
        ("deft", {"trainable_params": 9_175_040}, 22.00),
        ("deft", {"trainable_params": 3_670_016}, 20.04),
        ("ln_tuning", {"trainable_params": 175_104, "lora_targets": ["norm"]}, 19.73),
    ],
)
def test_methods_of_peft_alone_need_what_a_card_showed(method, changes, gib):
    record = {**PEFT, "method": "other", "method_detail": method, **changes}

    assert answer(record)["peak_allocated_bytes"] / GIB == pytest.approx(gib, rel=0.015)


def test_the_preparation_for_few_bits_widens_the_rest_unless_the_trainer_casts_it_back():
    record = {**PEFT, "quant": "nf4", "loss": None}
    shape = model(PEFT["model"])
    outside = shape.vocabulary * shape.hidden + (2 * shape.layers + 1) * shape.hidden

    def grown(trainer, version):
        named = {**record, "profile": trainer, "versions": {"transformers": version}}
        plain, prepared = (weights(described({**named, "kbit_prep": flag})).bytes for flag in (False, True))
        return prepared - plain

    assert grown("peft-plain", "5.13.1") == 2 * outside
    assert grown("trl", "4.48.1") == 0


def test_a_method_whose_form_is_not_told_is_refused_until_it_is():
    record = {
        **PEFT,
        "method": "other",
        "method_detail": "miss",
        "lora_rank": 64,
        "trainable_params": 7_340_032,
    }

    assert "which form" in answer(record)["reason"]
    assert answer({**record, "method_params": {"init_weights": "bat"}})["status"] == "ok"


@pytest.mark.parametrize(
    ("changes", "name", "part"),
    [
        ({"profile": "trl", "versions": {"transformers": "4.48.1"}}, "hf-trainer", "logits-4.48"),
        ({"profile": "trl", "versions": {"transformers": "5.20"}, "loss": None}, "trl-1", "fused-linear"),
        (
            {"profile": "fms-acceleration", "versions": {"transformers": "4.45.2"}, "loss": "foak"},
            "foak-4.45",
            "foak-4.45",
        ),
        ({"profile": "native", "loss": None}, "native", "native"),
    ],
)
def test_a_profile_is_found_by_trainer_and_version_and_a_record_wins_over_it(changes, name, part):
    found = described({**PEFT, **changes}).profile

    assert (found.name, found.head) == (name, heads()[part])


def test_a_loss_of_a_version_that_nobody_derived_is_refused():
    with pytest.raises(Unsupported, match="was not derived"):
        described({**PEFT, "profile": "trl", "versions": {"transformers": "4.30.0"}})


def test_a_trainer_outside_the_versions_that_were_read_says_so_and_is_wider():
    found = answer({**PEFT, "profile": "fms", "versions": {"transformers": "4.52.0"}})

    assert any("nearest" in warning for warning in found["warnings"])
    assert found["tolerance"] == 0.06


def test_a_provisional_profile_says_so_and_is_twice_as_wide():
    found = answer({**PEFT, "profile": "unsloth", "loss": None, "mask_materialised": None})

    assert any("provisional" in warning for warning in found["warnings"])
    assert found["tolerance"] == 2 * profile("unsloth").tolerance


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quant": "nf4", "method": "full"}, "quant"),
        ({"quant": "int8", "method": "dora"}, "quant"),
        ({"quant": "nf4", "n_gpus": 2, "sharding": "zero3"}, "sharding"),
        ({"quant": "fp8"}, "fp8"),
        ({"weights_dtype": "fp8"}, "fp8"),
        ({"fused_kernels": ["torch_compile"]}, "compiler"),
        ({"optimizer": "sophia"}, "sophia"),
        ({"loss": "magic"}, "magic"),
        ({"profile": "nobody"}, "nobody"),
        ({"profile": None}, "profile"),
        ({"objective": "magic"}, "objective"),
        ({"grad_ckpt": None}, "grad_ckpt"),
        ({"model": "Qwen/Qwen3.5-9B"}, "no formula"),
        ({"lora_targets": ["c_attn"]}, "c_attn"),
    ],
)
def test_what_no_formula_describes_or_no_run_can_be_is_refused_by_name(changes, said):
    found = answer({**PEFT, **changes})

    assert found["status"] == "unsupported"
    assert said in found["reason"]


@pytest.mark.parametrize("says", [{"architectures": ["BertForMaskedLM"]}, {"is_encoder_decoder": True}])
def test_a_config_of_another_kind_of_model_is_refused_as_such(says):
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    config = {"model_type": "llama", "vocab_size": 100, **sizes}

    assert answer({**PEFT, "model_config": config})["status"] == "ok"
    assert "not a causal language model" in answer({**PEFT, "model_config": config | says})["reason"]


@pytest.mark.parametrize("name", optimizers())
def test_every_optimizer_can_be_named_by_a_record(name):
    assert answer({**PEFT, "optimizer": name})["status"] == "ok"


@pytest.mark.parametrize("name", sorted({one for used in profiles().values() for one in used.trainers}))
def test_every_trainer_can_be_named_by_a_record(name):
    record = {**PEFT, "profile": name, "loss": None, "mask_materialised": None, "versions": None}

    assert answer(record)["status"] == "ok"


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 10**12),
    st.floats(),
    st.text(max_size=6),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)
FIELDS = (
    *PEFT,
    "quant",
    "objective",
    "reference",
    "sharding",
    "n_gpus",
    "grad_accum",
    "virtual_tokens",
    "model_config",
)


@given(st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=4))
def test_whatever_a_record_holds_it_gets_an_answer_or_a_reason(junk):
    found = answer({**PEFT, **junk})

    assert found["status"] == "ok" or found["reason"]


@pytest.mark.parametrize(
    ("sharding", "share"), [("zero3", 1 / 2), ("FSDP full_shard", 1 / 2), ("zero2", 1), ("ddp", 1)]
)
def test_a_record_of_two_devices_names_what_they_share(sharding, share):
    found = described({**PEFT, "n_gpus": 2, "sharding": sharding})

    assert weights(found).bytes == round(weights(replace(found, processes=1)).bytes * share)


# --- what would make it fit ---


def test_each_way_that_is_shown_makes_it_fit():
    large = Setup(model("Qwen/Qwen3-8B"), Lora(), profile("native"), 16_384, 4096)
    usable = 20 * GIB
    found = cheaper(large, usable)

    assert found
    assert all(fit(one.estimate, usable) == "fits" and one.estimate == estimate(one.setup) for one in found)


def test_what_fits_needs_no_change_and_what_never_fits_has_none():
    small = Setup(SHAPE, Lora(), profile("native"), 512, 512)

    assert cheaper(small, 80 * GIB) == ()
    assert cheaper(small, GIB // 100) == ()


def test_of_changes_together_none_is_more_than_is_needed():
    large = Setup(model("Qwen/Qwen3-8B"), Lora(), profile("native"), 16_384, 4096)
    (together,) = cheaper(large, 14 * GIB)

    assert len(together.texts) > 1
    assert not any("8 bit" in text for text in together.texts)


def test_answers_that_are_generated_are_a_moment_of_their_own_and_grow_with_their_length():
    record = {**PEFT, "profile": "native", "loss": None, "objective": "grpo", "mask_materialised": None}
    short, long = (answer({**record, "response_len": tokens}) for tokens in (128, 65_536))

    assert "generate" not in answer(record)["candidates"]
    assert long["candidates"]["generate"] > short["candidates"]["generate"]
    assert long["winner"] == "generate"


def test_experts_on_fp32_hidden_states_are_recomputed_in_fp32():
    mixtral = {
        "model": "mistralai/Mixtral-8x7B-v0.1",
        "method": "qlora",
        "quant": "nf4_dq",
        "lora_rank": 16,
        "lora_targets": ["q_proj", "k_proj", "v_proj", "o_proj"],
        "lora_dropout": 0.1,
        "seq_len": 4096,
        "micro_batch": 4,
        "grad_ckpt": True,
        "weights_dtype": "bf16",
        "adapter_dtype": "fp32",
        "autocast_dtype": "bf16",
        "kbit_prep": True,
        "loss": "full_fp32_upcast",
        "optimizer": "adamw_foreach",
        "versions": {"transformers": "4.48.1"},
        "profile": "trl",
    }
    found = answer(mixtral)

    assert found["winner"] == "recompute"
    assert found["peak_allocated_bytes"] / GIB == pytest.approx(39.86, rel=0.02)  # published, one A100


def test_behind_a_compiler_the_memory_is_refused_and_the_time_is_told():
    found = answer(
        {**PEFT, "mask_materialised": None, "fused_kernels": ["torch_compile"], "gpu": "A100 SXM4 80GB"}
    )

    assert (found["status"], "compiler" in found["reason"]) == ("unsupported", True)
    assert found["time"]["seconds_per_micro_batch"]["expected"] > 0


def test_layers_of_the_first_qwen_go_by_their_own_names():
    qwen = {**PEFT, "model": "Qwen/Qwen-1.8B", "mask_materialised": None}
    old, new = (
        answer({**qwen, "lora_targets": names})
        for names in (["c_attn", "w1", "w2"], ["q_proj", "k_proj", "v_proj", "up_proj", "gate_proj"])
    )

    assert old["peak_allocated_bytes"] == new["peak_allocated_bytes"]
