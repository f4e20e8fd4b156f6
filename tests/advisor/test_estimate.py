"""Memory and time: the arithmetic against published measurements, and what must hold for every configuration."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.catalog.models import ModelShape, model, models
from advisor.errors import BadValue, UnknownName
from advisor.estimate.activations import saved
from advisor.estimate.memory import LOWERED_BY, MOMENTS, estimate, fit, weights
from advisor.estimate.profiles import profile, profiles
from advisor.estimate.setup import Setup, Unsupported
from advisor.estimate.shapes import adapter_parameters, block_tensors, parameters, trained_parameters
from advisor.estimate.states import HELD
from advisor.units import GIB
from recipes.plan import Full, LastLayers, Lora

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
NOTHING = frozenset()
PUBLISHED_BLOCK = ModelShape(
    "a block of 3B",
    layers=28,
    hidden=3072,
    heads=24,
    kv_heads=8,
    head_width=128,
    mlp=8192,
    vocabulary=128256,
    tied=True,
    block="llama",
    estimator="closed_form",
    verified=True,
)


def setup(shape, adaptation, *, used="native", tokens=2048, **rest):
    rest = {"longest_tokens": tokens, "checkpointing": True, **rest}
    return Setup(shape, adaptation, profile(used), tokens, **rest)


def peak(*args, **kwargs):
    return estimate(setup(*args, **kwargs)).allocated


shapes = st.builds(
    ModelShape,
    name=st.just("some model"),
    layers=st.integers(1, 40),
    hidden=st.sampled_from([128, 1024, 4096]),
    heads=st.sampled_from([8, 16, 32]),
    kv_heads=st.sampled_from([2, 8]),
    head_width=st.sampled_from([16, 64, 128]),
    mlp=st.sampled_from([256, 4096, 14336]),
    vocabulary=st.sampled_from([1024, 32000, 151936]),
    tied=st.booleans(),
    block=st.sampled_from(["llama", "qwen3", "olmo2", "gemma3"]),
    estimator=st.just("closed_form"),
    verified=st.just(True),
)
adaptations = st.one_of(
    st.builds(Full),
    st.builds(LastLayers, layers=st.just(1)),
    st.builds(Lora, rank=st.sampled_from([4, 16, 64]), base=st.sampled_from(["dense", "nf4"])),
)
setups = st.builds(
    Setup,
    shape=shapes,
    adaptation=adaptations,
    profile=st.sampled_from(list(profiles().values())),
    micro_batch_tokens=st.integers(1, 40_000),
    longest_tokens=st.just(64),
    label_share=st.floats(0.01, 1.0),
    accumulates=st.booleans(),
    checkpointing=st.booleans(),
    dtype=st.sampled_from(["float32", "bfloat16"]),
)


@pytest.mark.parametrize(
    ("name", "adaptation", "used", "rows", "predicted_gb", "measured_gb", "winner"),
    [
        ("mistralai/Mistral-7B-v0.1", Full(), "hf-trainer", 4, 72.434, 72.435, "step"),
        ("mistralai/Mistral-7B-v0.1", Full(), "hf-trainer", 8, 72.434, 72.435, "step"),
        ("mistralai/Mistral-7B-v0.1", Lora(targets=ATTENTION), "hf-trainer", 4, 26.702, 26.705, "loss"),
        ("mistralai/Mistral-7B-v0.1", Lora(targets=ATTENTION), "hf-trainer", 8, 38.739, 38.743, "loss"),
        (
            "mistralai/Mistral-7B-v0.1",
            Lora(base="nf4", targets=ATTENTION),
            "hf-trainer-kbit",
            4,
            20.638,
            20.669,
            "loss",
        ),
        ("meta-llama/Meta-Llama-3-8B", Lora(targets=ATTENTION), "liger", 16, 50.936, 50.891, "recompute"),
    ],
)
def test_published_peaks_on_an_a100_are_reproduced(
    name, adaptation, used, rows, predicted_gb, measured_gb, winner
):
    found = estimate(setup(model(name), adaptation, used=used, tokens=rows * 4096))

    assert found.allocated / 1e9 == pytest.approx(predicted_gb, rel=5e-4)
    assert found.allocated / 1e9 == pytest.approx(measured_gb, rel=2e-3)
    assert found.winner.name == winner


@pytest.mark.parametrize(
    ("block", "full", "attention", "all_linear"),
    [
        ("llama", 131_176, 96_488, 119_112),
        ("qwen3", 155_880, 113_000, 135_624),
        ("olmo2", 176_240, 112_880, 135_504),
        ("phi3", 145_512, 110_760, 133_352),
        ("glm4", 174_320, 127_344, 149_936),
        ("gemma3", 225_569, 137_633, 160_257),
    ],
)
def test_a_block_saves_to_the_byte_what_a_dry_run_counted(block, full, attention, all_linear):
    shape = replace(PUBLISHED_BLOCK, block=block)
    names = ("qkv_proj", "o_proj") if block == "phi3" else ATTENTION
    every = frozenset(block_tensors(shape))
    stock = replace(profile("native"), norm="eager", swiglu="eager")
    found = [
        saved(replace(setup(shape, one), profile=stock), moves).each
        for one, moves in ((Full(), every), (Lora(targets=names), NOTHING), (Lora(), NOTHING))
    ]

    assert found == [full, attention, all_linear]


@pytest.mark.parametrize(
    ("changes", "checkpointing", "gib"),
    [
        ({}, False, 62.1),
        ({"norm": "function"}, False, 58.1),
        ({"norm": "function", "swiglu": "function"}, False, 44.1),
        ({}, True, 20.1),
    ],
)
def test_the_native_trainer_needs_what_a_dry_run_of_it_counted(changes, checkpointing, gib):
    used = replace(profile("native"), **{"norm": "eager", "swiglu": "eager", **changes})
    shape = model("meta-llama/Meta-Llama-3-8B")
    found = estimate(Setup(shape, Lora(), used, 8192, 8192, 0.5, checkpointing=checkpointing))

    assert found.allocated / GIB == pytest.approx(gib, rel=0.04)


@given(setups)
def test_the_terms_of_a_moment_sum_to_it_and_the_largest_moment_is_the_peak(found):
    done = estimate(found)

    assert all(moment.bytes == sum(term.bytes for term in moment.terms) for moment in done.moments)
    assert done.allocated == max(done.candidates.values())
    assert set(done.candidates) | {"generate"} == set(MOMENTS) == set(LOWERED_BY)
    assert all(
        isinstance(t.bytes, int) and t.bytes > 0 and t.arithmetic for m in done.moments for t in m.terms
    )


@given(setups)
def test_the_same_configuration_has_the_same_estimate(found):
    assert estimate(found) == estimate(found)


@given(setups)
def test_more_tokens_never_need_less(found):
    more = replace(found, micro_batch_tokens=found.micro_batch_tokens + 64)

    assert estimate(more).allocated >= estimate(found).allocated


@given(setups)
def test_more_layers_never_need_less(found):
    deeper = replace(found, shape=replace(found.shape, layers=found.shape.layers + 1))

    assert estimate(deeper).allocated >= estimate(found).allocated


@given(setups)
def test_a_larger_vocabulary_never_needs_less(found):
    wider = replace(found, shape=replace(found.shape, vocabulary=found.shape.vocabulary * 2))

    assert estimate(wider).allocated >= estimate(found).allocated


@given(setups, st.integers(1, 64))
def test_a_larger_rank_never_needs_less(found, more):
    lora = Lora(rank=8)
    small, large = replace(found, adaptation=lora), replace(found, adaptation=Lora(rank=8 + more))

    assert estimate(large).allocated >= estimate(small).allocated


@given(setups)
def test_more_trained_tokens_never_need_less(found):
    all_of_them = replace(found, label_share=1.0)

    assert estimate(all_of_them).allocated >= estimate(found).allocated


@given(setups)
@settings(max_examples=200)
def test_recomputing_activations_never_needs_more_while_they_are_kept_for_several_layers(found):
    deep = replace(found, shape=replace(found.shape, layers=8), adaptation=Lora())
    kept, again = replace(deep, checkpointing=False), replace(deep, checkpointing=True)

    assert estimate(again).allocated <= estimate(kept).allocated


@given(setups)
def test_a_4_bit_base_holds_less_than_a_16_bit_one_and_double_quantisation_less_still(found):
    dense, nf4, double = (
        weights(replace(found, adaptation=adaptation)).bytes
        for adaptation in (Lora(), Lora(base="nf4", double_quantisation=False), Lora(base="nf4"))
    )

    assert double < nf4 < dense


def test_only_linear_layers_inside_the_blocks_are_quantised():
    shape = model("Qwen/Qwen3-8B")
    inside = 6_945_767_424
    outside = parameters(shape) - inside

    found = weights(setup(shape, Lora(base="nf4"))).bytes

    assert outside == pytest.approx(1.245e9, rel=1e-3)
    assert found == round(inside * HELD["nf4_double"] + outside * 2)


def test_an_8b_model_with_rank_16_has_the_adapter_parameters_that_peft_counts():
    assert adapter_parameters(model("meta-llama/Meta-Llama-3-8B"), Lora(rank=16)) == 41_943_040
    assert adapter_parameters(model("mistralai/Mistral-7B-v0.1"), Lora(targets=ATTENTION)) == 13_631_488


def test_last_layers_train_the_final_norm_and_only_an_untied_head():
    tied = PUBLISHED_BLOCK
    block = (parameters(tied) - 3072 - 128256 * 3072) // 28

    assert trained_parameters(tied, LastLayers(layers=2)) == 2 * block + 3072
    assert (
        trained_parameters(replace(tied, tied=False), LastLayers(layers=2))
        == 2 * block + 3072 + 128256 * 3072
    )


def test_more_last_layers_than_there_are_is_refused():
    with pytest.raises(BadValue):
        estimate(setup(PUBLISHED_BLOCK, LastLayers(layers=29)))


def test_an_adapter_on_a_layer_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(BadValue) as failure:
        estimate(setup(PUBLISHED_BLOCK, Lora(targets=("c_attn",))))

    assert "q_proj" in failure.value.remedy.format(**failure.value.values)


@pytest.mark.parametrize("tokens", [0, -1, 2**40])
def test_a_micro_batch_of_impossible_size_is_refused(tokens):
    with pytest.raises(BadValue):
        setup(PUBLISHED_BLOCK, Full(), tokens=tokens)


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen3.5-9B", "google/gemma-2-9b", "mistralai/Ministral-3-14B-Instruct-2512"]
)
def test_a_model_without_a_formula_is_refused_and_never_guessed(name):
    with pytest.raises(Unsupported):
        peak(model(name), Lora())


def test_dimensions_that_contradict_the_published_size_are_refused():
    with pytest.raises(Unsupported):
        peak(model("ByteDance-Seed/Seed-OSS-36B-Instruct"), Lora())


def test_every_model_with_a_formula_and_read_dimensions_can_be_estimated():
    known = [s for s in models().values() if s.estimator.startswith("closed_form") and s.verified]

    assert all(peak(shape, Lora()) > 0 for shape in known)


def test_a_mixture_of_experts_says_that_its_figure_is_wide():
    found = estimate(setup(model("Qwen/Qwen3-30B-A3B"), Lora()))

    assert found.tolerance == 0.10
    assert any("experts" in warning for warning in found.warnings)


def test_an_unknown_profile_is_answered_with_the_nearest_names():
    with pytest.raises(UnknownName):
        profile("natives")


@given(setups, st.integers(GIB // 8, 400 * GIB))
def test_a_verdict_never_gets_worse_with_more_memory(found, usable):
    order = ["does_not_fit", "unlikely", "likely", "fits"]
    done = estimate(found)

    assert order.index(fit(done, usable + GIB)) >= order.index(fit(done, usable))


def test_only_the_upper_bound_of_the_process_says_fits():
    done = estimate(setup(model("Qwen/Qwen3-8B"), Lora()))
    high, low = done.process.high, done.process.low

    assert fit(done, int(high) + 1) == "fits"
    assert fit(done, int(high) - 1) == "likely"
    assert fit(done, int(low)) == "unlikely"
    assert fit(done, int(done.allocated * 0.9)) == "does_not_fit"


def test_a_gpu_counts_its_workspace_and_a_cpu_its_libraries():
    names = {
        used: {term.name for term in estimate(setup(PUBLISHED_BLOCK, Lora(), used=used)).winner.terms}
        for used in ("native", "native-cpu")
    }

    assert names["native"] ^ names["native-cpu"] == {"workspace", "libraries"}


@pytest.mark.parametrize(("adaptation", "measured"), [(Lora(), 124_641_280), (Full(), 126_930_944)])
def test_the_embedded_model_grows_a_process_by_what_was_measured_on_a_cpu(adaptation, measured):
    sizes = {
        "layers": 4,
        "hidden": 192,
        "heads": 6,
        "kv_heads": 6,
        "head_width": 32,
        "mlp": 512,
        "vocabulary": 1024,
    }
    one = setup(
        replace(PUBLISHED_BLOCK, **sizes),
        adaptation,
        used="native-cpu",
        tokens=576,
        dtype="float32",
        checkpointing=False,
        label_share=0.35,
    )
    one = replace(one, profile=replace(one.profile, norm="eager", swiglu="eager"))  # as it was measured

    assert estimate(one).allocated == pytest.approx(measured, rel=0.1)
