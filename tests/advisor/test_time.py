"""Time and money: operations and bytes against published rates; a reason where a rate is missing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.catalog.gpus import Hardware, gpus, hardware
from advisor.catalog.models import ModelShape, Moe, model
from advisor.catalog.sources import sources
from advisor.estimate import rates
from advisor.estimate.profiles import profile, profiles
from advisor.estimate.setup import Setup
from advisor.estimate.time import Timing, Untimed, energy_kwh, rent_usd, timing, training_seconds
from advisor.estimate.work import MICRO_BATCH, forward_flops, micro_batch, step
from advisor.show.batch import answer
from advisor.units import GIB
from recipes.plan import Full, LastLayers, Lora

EIGHT_B = model("meta-llama/Meta-Llama-3-8B")
H200, H100, A100 = (hardware(gpu=name) for name in ("H200 SXM", "H100 SXM5 80GB", "A100 SXM4 80GB"))


def of(adaptation, *, used="native", tokens=8192, shape=EIGHT_B, **rest):
    rest = {"longest_tokens": min(tokens, 2048), "checkpointing": True, **rest}
    return Setup(shape, adaptation, profile(used), tokens, **rest)


def seconds(setup, machine=A100, **rest):
    found = timing(setup, machine, 1e6, **rest)
    assert isinstance(found, Timing)
    return found


# --- work -----------------------------------------------------------------------------------------------------


def test_arithmetic_of_full_training_is_three_forwards_and_a_fourth_where_activations_are_recomputed():
    kept = of(Full(), checkpointing=False, longest_tokens=1)
    forward = forward_flops(kept) * kept.micro_batch_tokens

    assert micro_batch(kept).flops == pytest.approx(3 * forward, rel=1e-3)
    assert micro_batch(replace(kept, checkpointing=True)).flops == pytest.approx(4 * forward, rel=0.02)


def test_adapters_save_the_gradients_of_the_weights_and_the_label_share_saves_the_head():
    kept = of(Lora(), checkpointing=False, longest_tokens=1)
    forward = forward_flops(kept) * kept.micro_batch_tokens

    assert micro_batch(kept).flops == pytest.approx(2 * forward, rel=0.02)
    assert micro_batch(replace(kept, label_share=0.1)).flops < micro_batch(kept).flops


def test_frozen_first_layers_have_no_backward():
    last, whole = of(LastLayers(layers=8)), of(LastLayers(layers=32))

    assert micro_batch(last).flops < 0.6 * micro_batch(whole).flops


def test_only_active_experts_compute():
    moe = model("mistralai/Mixtral-8x7B-v0.1")
    one = replace(moe, moe=replace(moe.moe, active=1))

    assert micro_batch(of(Lora(), shape=one)).flops < 0.6 * micro_batch(of(Lora(), shape=moe)).flops


def test_a_4_bit_base_is_dequantised_in_every_pass_however_few_the_tokens():
    few, many = (micro_batch(of(Lora(base="nf4"), tokens=t)) for t in (64, 128))
    dense = [micro_batch(of(Lora(), tokens=t)) for t in (64, 128)]
    extra = [
        quantised.stream_bytes - plain.stream_bytes
        for quantised, plain in zip((few, many), dense, strict=True)
    ]

    assert extra[0] == extra[1] > 3 * 2 * 6e9


def test_an_unfused_optimizer_moves_more_bytes_and_8_bit_moments_fewer():
    fused, unfused = step(of(Full())), step(of(Full(), used="hf-trainer"))
    small = step(of(Full(), optimizer="adamw_8bit"))

    assert small.stream_bytes < fused.stream_bytes < unfused.stream_bytes


# --- rates ----------------------------------------------------------------------------------------------------


def test_every_rate_has_a_known_source():
    found = {rates.device().source, rates.operations().source, rates.exchange().source}
    found |= {row.source for row in rates.stacks().values()}

    assert found <= set(sources())


def test_every_profile_has_a_stack_with_a_launch_cost_in_order():
    for used in profiles().values():
        low, usual, high = rates.stack(used).launch_us

        assert 0 < low <= usual <= high


def test_a_trainer_with_its_kernels_off_is_as_slow_as_the_stock_one():
    on, stock = profile("foak"), profile("hf-trainer")

    assert rates.stack(on).norm == "fused"
    assert rates.stack(replace(on, head=stock.head)) == rates.stack(stock)


def test_every_power_limit_and_every_link_has_a_source():
    for card in gpus().values():
        assert (card.power_watts is None) == (not card.power_source), card.name
        assert (card.link_gbs is None) == (not card.link_source), card.name


# --- time -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setup", "machine", "said"),
    [
        (of(Lora()), hardware(vram_gb=24), "--gpu"),
        (of(Lora()), hardware(gpu="T4"), "T4"),
        (of(Lora(), dtype="float32"), A100, "float32"),
        (of(Lora()), Hardware("cpu", "CPU", GIB), "advisor measure"),
    ],
)
def test_where_a_rate_is_not_known_there_is_a_reason_and_no_number(setup, machine, said):
    found = timing(setup, machine, 1e6)

    assert isinstance(found, Untimed)
    assert said in str(found)
    assert training_seconds(setup, 1e6, machine) is None


def test_a_reference_is_a_forward_more_and_a_pair_is_two_sequences():
    plain, pairs = of(Lora()), of(Lora(), objective="dpo")
    held = replace(pairs, reference="adapter_off")

    assert seconds(pairs).expected == pytest.approx(2 * seconds(plain).expected, rel=0.05)
    assert seconds(held).expected > 1.2 * seconds(pairs).expected


def test_the_time_of_generating_is_refused():
    assert "grpo" in str(timing(of(Lora(), objective="grpo"), A100, 1e6))


@pytest.mark.parametrize(
    ("adaptation", "name", "rows", "measured"),
    [(Full(), "foak", 8, 9.61538), (Lora(rank=16, dropout=0.1), "liger", 8, 8.44773)],
)
def test_a_published_micro_batch_of_8b_lies_within_a_tenth(adaptation, name, rows, measured):
    if isinstance(adaptation, Lora):
        adaptation = adaptation.model_copy(update={"targets": ("q_proj", "k_proj", "v_proj", "o_proj")})
    one = of(adaptation, used=name, tokens=4096 * rows, longest_tokens=4096)

    assert seconds(one).expected == pytest.approx(measured, rel=0.1)


def test_time_of_the_native_trainer_lies_around_what_is_expected_of_it():
    found = timing(
        of(Lora(), tokens=16_384, longest_tokens=512, label_share=0.5, checkpointing=False), H200, 1e6
    )

    assert found.total.low < 1e6 / 20_000 < 1e6 / 17_000 < found.total.high


def test_recomputing_costs_time_and_adapters_cost_less_than_all_weights():
    kept = of(Lora(), checkpointing=False)
    again = replace(kept, checkpointing=True)
    whole = replace(again, adaptation=Full())

    times = [seconds(one, H100).expected for one in (kept, again, whole)]

    assert times == sorted(set(times))


def test_a_small_micro_batch_waits_for_the_host():
    small, large = of(Lora(), tokens=64), of(Lora(), tokens=32_768)

    assert seconds(small).limited_by == "launches"
    assert seconds(large).limited_by == "arithmetic"


def test_the_interval_is_never_narrower_than_a_quarter_and_wider_for_a_card_nobody_compared():
    known, other = seconds(of(Full())), seconds(of(Full()), hardware(gpu="RTX 4090"))

    assert known.total.low * 1.25 <= known.total.high / 1.25 * 1.0001
    assert other.total.high / other.total.low > known.total.high / known.total.low


def test_a_step_is_its_micro_batches_and_the_optimizer():
    one, four = (seconds(of(Full()), accumulation=n) for n in (1, 4))

    assert one.step.high > one.micro_batch.high
    assert four.step.high == pytest.approx(one.step.high + 3 * one.micro_batch.high)
    assert four.total.high < one.total.high  # the optimizer runs less often


def test_tokens_a_second_and_total_say_the_same():
    found = timing(of(Lora()), A100, 1e9)

    assert 1e9 / found.total.high == pytest.approx(found.tokens_per_second.low, rel=1e-6)


def test_time_on_a_cpu_follows_from_a_measured_forward_and_says_how_wide_it_is():
    machine = Hardware("cpu", "CPU", GIB, forward_tokens_per_second=1000.0)
    one = of(Full(), used="native-cpu", checkpointing=False, tokens=1000, dtype="float32")
    found = timing(one, machine, 10_000)

    assert found.total.low < 3 * 10 < found.total.high


@given(
    layers=st.integers(1, 40),
    hidden=st.sampled_from([256, 1024, 4096]),
    tokens=st.integers(1, 65_536),
    adaptation=st.sampled_from([Full(), Lora(), Lora(base="nf4", rank=64)]),
    experts=st.sampled_from([None, Moe(experts=8, active=2, mlp=512)]),
)
def test_more_layers_and_more_tokens_never_take_less(layers, hidden, tokens, adaptation, experts):
    shape = ModelShape(
        "some model", layers, hidden, 8, 8, hidden // 8, 4 * hidden, 32_000, tied=False, moe=experts,
        block="llama", estimator="closed_form", verified=True,
    )  # fmt: skip
    one = of(adaptation, shape=shape, tokens=tokens, longest_tokens=1)
    deeper = replace(one, shape=replace(shape, layers=layers + 1))

    assert seconds(one).expected <= seconds(deeper).expected
    assert seconds(one).expected <= seconds(replace(one, micro_batch_tokens=tokens + 1)).expected
    assert all(part(one).stream_bytes >= 0 for part in MICRO_BATCH)


# --- several devices ------------------------------------------------------------------------------------------


def test_two_devices_are_faster_than_one_and_slower_than_half():
    one, two = seconds(of(Full())), seconds(of(Full(), processes=2))

    assert one.total.low / 2 <= two.total.low < one.total.low
    assert two.total.high > one.total.high / 2


def test_dividing_the_weights_costs_more_exchange_than_dividing_nothing():
    whole = seconds(of(Full(), processes=2))
    sharded = seconds(of(Full(), processes=2, sharding="fsdp2"))

    assert sharded.micro_batch.high > whole.micro_batch.high


def test_a_slow_network_between_nodes_can_decide():
    many = of(Full(), tokens=2048, processes=16, sharding="fsdp2")
    near, far = seconds(many), seconds(many, nodes=2)

    assert far.limited_by == "exchange"
    assert far.total.high > near.total.high


def test_cards_without_a_published_link_have_the_wider_interval():
    def spread(name):
        found = seconds(of(Full(), processes=2), hardware(gpu=name)).step
        return found.high / found.low

    assert spread("A100 PCIe 80GB") > spread("A100 SXM4 80GB")


# --- money ----------------------------------------------------------------------------------------------------


def test_rent_and_energy_need_a_dated_quote_and_a_power_limit():
    hour = seconds(of(Lora())).total

    assert rent_usd(hour, H100.gpu).low > 0
    assert rent_usd(hour, gpus()["A40"]) is None
    assert energy_kwh(hour, H100.gpu).high > 0
    assert energy_kwh(hour, gpus()["RTX A4000"]) is None


def test_two_cards_cost_twice_as_much_an_hour():
    hour = seconds(of(Lora())).total

    assert rent_usd(hour, H100.gpu, 2).high == pytest.approx(2 * rent_usd(hour, H100.gpu).high)
    assert energy_kwh(hour, H100.gpu, 2).low == pytest.approx(2 * energy_kwh(hour, H100.gpu).low)


def test_the_committed_scores_reach_the_figure():
    results = json.loads((Path(__file__).parents[2] / "benchmarks/results/time.json").read_text())

    assert results["mape"] <= 0.12
    assert results["mape_without_own_model"] <= 0.12
    assert len(results["scored"]) + len(results["unscored"]) >= 121


def test_a_record_of_a_batch_has_the_time_on_the_card_that_it_names():
    record = {"model": "Qwen/Qwen3-8B", "method": "full", "seq_len": 2048, "micro_batch": 1}
    record |= {"profile": "native", "grad_ckpt": True}
    known = answer({**record, "gpu": "A100 SXM4 80GB"})["time"]

    assert known["seconds"]["low"] < known["seconds"]["high"]
    assert known["tokens_per_second"]["high"] == pytest.approx(1e6 / known["seconds"]["low"])
    sharded = answer({**record, "gpu": "A100 SXM4 80GB", "sharding": "zero3", "n_gpus": 1, "seq_len": 64})[
        "time"
    ]

    assert sharded["limited_by"] == "launches"
    assert "16-bit rate" in answer({**record, "gpu": "T4"})["time"]["untimed"]
    assert answer({**record, "gpu": "no such card"})["time"] is None
    assert answer({**record, "gpu": 7})["time"] is None
