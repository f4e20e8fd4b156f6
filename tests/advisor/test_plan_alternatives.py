"""The ranked list of plans: all of them fit, the order follows from what is shown, and nothing fits for a reason."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.catalog.gpus import Hardware, hardware
from advisor.catalog.models import model
from advisor.catalog.sources import sources
from advisor.cli import main
from advisor.data.stats import DataStats
from advisor.errors import NothingFits
from advisor.estimate.memory import fit
from advisor.estimate.setup import Unsupported
from advisor.estimate.time import Timing, Untimed
from advisor.plan import ranking
from advisor.plan.alternatives import Fleet, alternatives, proposal
from advisor.plan.compose import TRAINED_LEAVES, RowFiles, Wanted
from advisor.plan.ranking import Merits, front, scores, weights
from advisor.show.plan import flat
from advisor.units import GIB
from recipes.exits import Exit
from recipes.plan import Evaluation, Plan, agrees
from recipes.read import read

STATS = DataStats(20_000, 12_000_000, 4_000_000, 1800, 1500, 600.0, "tokenizer")
FILES = RowFiles("train.jsonl", "0" * 64, "held_out.jsonl", "1" * 64)
NAME = "Qwen/Qwen3-8B"
H100 = hardware(gpu="H100 SXM5 80GB")


def wanted(*names, machine=H100, leaves=TRAINED_LEAVES, stats=STATS):
    return [
        Wanted(leaf, "a-run", name, model(name), FILES, stats, Evaluation(), machine)
        for name in names or (NAME,)
        for leaf in leaves
    ]


def ratios(one, best):
    return one.merits.time / best.merits.time


@settings(max_examples=8)
@given(
    size=st.sampled_from([12, 16, 24, 48, 80, 141]),
    cards=st.sampled_from([1, 2, 3, 8]),
    nodes=st.sampled_from([1, 2]),
    prefer=st.sampled_from(list(weights())),
)
def test_every_plan_of_the_list_fits_is_allowed_and_stands_in_order(size, cards, nodes, prefer):
    machine = hardware(vram_gb=size)
    found = alternatives(wanted(machine=machine), Fleet(cards, nodes), weights=weights()[prefer])

    assert all(fit(one.estimate, machine.usable_bytes) == "fits" for one in found)
    assert all(agrees(one.plan) and Plan.model_validate(one.plan.model_dump()) for one in found)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert any(one.on_front for one in found)


def test_the_order_is_quality_less_the_tolls_that_are_shown():
    found = [Merits(100, 4.0, 1.0), Merits(99, 1.0, 2.0)]

    assert scores(found, ranking.Weights("x", time=2.0, cost=1.0)) == (96.0, 98.0)


def test_preferring_time_puts_a_faster_plan_first_and_cost_a_cheaper_one():
    fastest, cheapest = (
        alternatives(wanted(), Fleet(8), weights=weights()[name])[0] for name in ("time", "cost")
    )

    assert fastest.merits.time < cheapest.merits.time
    assert fastest.merits.cost > cheapest.merits.cost


@given(st.lists(st.builds(Merits, *[st.integers(1, 5).map(float)] * 3), min_size=1, max_size=8))
def test_the_front_holds_exactly_what_nothing_beats(found):
    for one, on in zip(found, front(found), strict=True):
        beaten = any(
            other.quality >= one.quality
            and other.time <= one.time
            and other.cost <= one.cost
            and other != one
            for other in found
        )
        assert on == (not beaten)


def test_the_method_that_the_advice_names_gains_against_the_others():
    def place(advised):
        found = alternatives(wanted(), advised=advised)
        return [one.wanted.leaf for one in found].index("sft_qlora")

    assert place("sft_qlora") < place("sft_lora")


def test_qlora_is_explained_by_what_lora_would_need():
    best = alternatives(wanted(machine=hardware(vram_gb=16)))[0]
    said = [str(reason) for reason in proposal(best).concessions]

    assert any(
        "QLoRA, because LoRA in bfloat16 needs" in text and "16 GB has 15.2 GiB" in text for text in said
    )


def test_where_lora_fits_too_qlora_is_not_called_a_need():
    found = alternatives(wanted(machine=hardware(gpu="L40S")))
    quantised = next(one for one in found if one.wanted.leaf == "sft_qlora")

    assert not any("QLoRA, because" in str(reason) for reason in proposal(quantised).concessions)


def test_every_field_of_a_picked_plan_has_a_reason_with_a_known_source():
    for one in alternatives(wanted(), Fleet(8, 2)):
        found = proposal(one)
        keys = {key for key, _ in flat(found.plan.model_dump(exclude_none=True))}

        assert keys <= set(found.why)
        assert {reason.source for reason in found.why.values()} <= set(sources())


def test_more_cards_share_the_rows_of_a_step_and_do_not_make_it_larger():
    found = alternatives(wanted(leaves=["sft_lora"]), Fleet(8))
    steps = {
        one.plan.layout.processes: one.plan.schedule.micro_batch_tokens
        * one.plan.schedule.accumulation
        * one.plan.layout.processes
        for one in found
    }

    assert len(steps) > 1
    assert max(steps.values()) <= 1.5 * steps[1]


def test_the_same_plan_on_two_cards_is_faster_and_not_cheaper():
    found = alternatives(wanted(leaves=["sft_lora"], machine=hardware(gpu="H200 SXM")), Fleet(2))
    two, one = sorted(found, key=lambda each: each.merits.time)

    assert (one.plan.layout.processes, two.plan.layout.processes) == (1, 2)
    assert two.merits.cost >= one.merits.cost


def test_a_model_too_large_for_one_card_is_divided_among_several():
    asked = wanted("meta-llama/Llama-3.1-70B", leaves=["sft_lora"], machine=hardware(gpu="A100 SXM4 80GB"))
    with pytest.raises(NothingFits) as failure:
        alternatives(asked)
    best = alternatives(asked, Fleet(8))[0]

    assert "cards" in failure.value.changes[-1].values
    assert best.plan.layout.sharding in {"fsdp2", "zero3"}
    assert "divided among the devices" in str(proposal(best).why["layout.sharding"])


def test_nodes_are_written_into_the_layout():
    found = alternatives(wanted(leaves=["sft_lora"], stats=replace(STATS, mean_tokens=6000.0)), Fleet(4, 2))
    far = next(one for one in found if one.plan.layout.nodes == 2)

    assert far.plan.layout.processes == 8
    assert "computers" in str(proposal(far).why["layout.nodes"])


def test_a_smaller_model_loses_quality_by_halvings():
    found = alternatives(wanted("Qwen/Qwen3-8B", "Qwen/Qwen3-4B", leaves=["sft_lora"]))
    large, small = (
        next(one for one in found if one.wanted.model_id == name)
        for name in ("Qwen/Qwen3-8B", "Qwen/Qwen3-4B")
    )

    assert small.merits.quality == pytest.approx(large.merits.quality - 4, abs=0.5)


def test_without_published_rates_plans_are_compared_by_their_operations():
    found = alternatives(wanted(machine=hardware(vram_gb=80)))

    assert all(isinstance(one.timing, Untimed) for one in found)
    assert len({one.merits.time for one in found}) > 1


def test_with_published_rates_every_plan_has_its_time():
    assert all(isinstance(one.timing, Timing) for one in alternatives(wanted()))


def test_a_model_without_a_formula_is_left_out_and_refused_only_alone():
    found = alternatives(wanted("Qwen/Qwen3.5-9B", NAME))

    assert {one.wanted.model_id for one in found} == {NAME}
    with pytest.raises(Unsupported):
        alternatives(wanted("Qwen/Qwen3.5-9B"))


def test_where_nothing_fits_every_near_change_is_computed_and_helps():
    long = replace(STATS, longest_tokens=60_000, p99_tokens=50_000)
    asked = wanted(leaves=["sft_lora"], machine=hardware(vram_gb=24), stats=long)
    with pytest.raises(NothingFits) as failure:
        alternatives(asked)
    rows = next(change for change in failure.value.changes if "tokens" in change.values)
    shorter = replace(long, longest_tokens=rows.values["tokens"], p99_tokens=rows.values["tokens"])

    assert failure.value.exit_code == Exit.ENVIRONMENT
    assert alternatives([replace(one, stats=shorter) for one in asked])


def test_a_cpu_gets_plans_for_one_process():
    found = alternatives(wanted("Qwen/Qwen3-0.6B", machine=Hardware("cpu", "CPU", 64 * GIB)), Fleet(8))

    assert {one.plan.layout.processes for one in found} == {1}


# --- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def examples(tmp_path):
    path = tmp_path / "examples.jsonl"
    lines = [{"prompt": f"What is {i} plus one?", "completion": f"It is {i + 1}. " * 40} for i in range(700)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["--lang", "en", *words])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def test_the_list_shows_the_trade_the_weights_and_the_front(capsys, examples):
    code, out, _ = run(capsys, "plan", "--model", "qwen3-8b", "--data", examples, "--gpu", "l40s")

    assert code == Exit.OK
    assert all(word in out for word in ("LoRA", "QLoRA", "order (balanced)", "at prices of 2026", "1*"))


def test_a_picked_row_is_written_as_a_recipe_that_can_be_read(capsys, examples, tmp_path):
    words = ("plan", "--model", "qwen3-8b", "--data", examples, "--gpu", "l40s", "--json")
    _, out, _ = run(capsys, *words)
    rows = json.loads(out)["data"]["alternatives"]
    code, _, _ = run(capsys, *words, "--pick", "2", "-o", str(tmp_path / "out"))
    plan = read((tmp_path / "out" / "recipe.toml").read_text(), where="recipe.toml")

    assert code == Exit.OK
    assert plan.schedule.micro_batch_tokens == rows[1]["micro_batch_tokens"]
    assert plan.schedule.checkpointing == rows[1]["checkpointing"]


def test_a_row_that_is_not_there_is_refused_with_the_number_of_rows(capsys, examples):
    code, _, err = run(
        capsys, "plan", "--model", "qwen3-8b", "--data", examples, "--gpu", "l40s", "--pick", "99"
    )

    assert code == Exit.USAGE
    assert "no row 99" in err


def test_what_would_help_stands_under_the_refusal(capsys, examples):
    code, _, err = run(capsys, "plan", "--model", "llama-3.1-70b", "--data", examples, "--vram", "16")

    assert code == Exit.ENVIRONMENT
    assert "would need" in err
