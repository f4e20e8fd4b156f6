"""Plans: every value has its reason, what does not fit is conceded with a sentence, what never fits is refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.catalog.gpus import Hardware, hardware
from advisor.catalog.models import model
from advisor.catalog.sources import sources
from advisor.data.stats import DataStats
from advisor.errors import BadValue, NothingFits
from advisor.estimate.setup import Unsupported
from advisor.plan import defaults
from advisor.plan.compose import TRAINED_LEAVES, NotTrained, RowFiles, Wanted, propose
from advisor.plan.fits import METHODS, WELL_KNOWN, table
from advisor.show.plan import flat
from advisor.units import GIB
from recipes.exits import Exit
from recipes.plan import Evaluation, Full, LastLayers, Lora, Plan
from recipes.read import read
from recipes.write import write

STATS = DataStats(2000, 1_200_000, 400_000, 1800, 1500, 600.0, "tokenizer")
FILES = RowFiles("train.jsonl", "0" * 64, "held_out.jsonl", "1" * 64)
TINY = {
    "layers": 4,
    "hidden": 192,
    "heads": 6,
    "kv_heads": 6,
    "head_width": 32,
    "mlp": 512,
    "vocabulary": 1024,
    "tied": True,
    "context": 512,
}


def wanted(leaf="sft_lora", name="Qwen/Qwen3-8B", machine=None, stats=STATS, **rest):
    machine = machine or hardware(vram_gb=80)
    return Wanted(leaf, "a-run", name, model(name), FILES, stats, Evaluation(), machine, **rest)


def rows(count, *, mean=100):
    return DataStats(count, count * mean, count * mean // 3, 2 * mean, 2 * mean, float(mean), "estimated")


def tiny():
    return replace(model("Qwen/Qwen3-0.6B"), name="tiny", block="llama", **TINY, published_parameters=None)


data_stats = st.builds(
    lambda count, mean, spread: DataStats(
        count,
        round(count * mean),
        max(1, round(count * mean / 3)),
        mean * spread,
        mean * 2,
        float(mean),
        "estimated",
    ),
    st.integers(1, 300_000),
    st.integers(2, 900),
    st.integers(2, 4),
)


@given(st.sampled_from(TRAINED_LEAVES), data_stats, st.sampled_from([8, 24, 80, 141]))
def test_every_field_of_every_proposal_has_a_reason_with_a_known_source(leaf, stats, size):
    try:
        found = propose(wanted(leaf, "Qwen/Qwen3-4B", hardware(vram_gb=size), stats))
    except NothingFits:
        return
    keys = {key for key, _ in flat(found.plan.model_dump(exclude_none=True))}

    assert keys <= set(found.why)
    assert {reason.source for reason in found.why.values()} <= set(sources())
    assert all(str(reason) for reason in found.why.values())


@given(st.sampled_from(TRAINED_LEAVES), data_stats, st.sampled_from([8, 24, 80, 141]))
def test_a_proposal_fits_by_its_upper_bound_or_there_is_none(leaf, stats, size):
    machine = hardware(vram_gb=size)
    try:
        found = propose(wanted(leaf, "Qwen/Qwen3-4B", machine, stats))
    except NothingFits:
        return

    assert found.fit == "fits"
    assert found.estimate.process.high < machine.usable_bytes
    assert found.plan.predicted.peak_bytes == found.estimate.allocated
    assert found.plan.schedule.micro_batch_tokens >= found.plan.data.length_tokens


def test_a_proposal_can_be_written_and_read_back():
    found = propose(wanted(machine=hardware(gpu="H100 SXM5 80GB")))
    words = {key: str(reason) for key, reason in found.why.items()}

    assert read(write(found.plan, words)) == found.plan


def test_nothing_is_conceded_where_everything_fits():
    found = propose(wanted(machine=hardware(vram_gb=192)))

    assert found.concessions == ()
    assert not found.plan.schedule.checkpointing


def test_qlora_is_conceded_with_what_lora_needed_and_what_the_card_has():
    found = propose(wanted(machine=hardware(vram_gb=16)))
    said = [str(reason) for reason in found.concessions]

    assert found.plan.adaptation.base == "nf4"
    assert any(
        text.startswith("QLoRA, because LoRA in bfloat16 needs 20.") and "15.2 GiB" in text for text in said
    )
    assert found.why["adaptation.base"] in found.concessions


def test_a_larger_concession_takes_back_smaller_ones_that_it_makes_needless():
    found = propose(wanted(machine=hardware(vram_gb=16)))

    assert found.plan.schedule.micro_batch_tokens == 8192
    assert len(found.concessions) == 2


def test_smaller_micro_batches_keep_the_rows_of_a_step():
    roomy, tight = (
        propose(wanted(machine=hardware(vram_gb=192))),
        propose(wanted(machine=hardware(vram_gb=22))),
    )
    tokens = [p.plan.schedule.micro_batch_tokens * p.plan.schedule.accumulation for p in (roomy, tight)]

    assert tight.plan.schedule.micro_batch_tokens < roomy.plan.schedule.micro_batch_tokens
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize(
    ("leaf", "name", "size", "offered"),
    [
        ("sft_full", "Qwen/Qwen3-8B", 24, "sft_lora"),
        ("sft_full", "Qwen/Qwen3-8B", 16, "sft_qlora"),
        ("sft_qlora", "meta-llama/Llama-3.1-70B", 24, "meta-llama/Llama-3.1-8B"),
    ],
)
def test_where_nothing_fits_the_nearest_change_is_computed(leaf, name, size, offered):
    with pytest.raises(NothingFits) as failure:
        propose(wanted(leaf, name, hardware(vram_gb=size)))
    remedy = failure.value.remedy.format(**failure.value.values)

    assert failure.value.exit_code == Exit.ENVIRONMENT
    assert offered in remedy
    assert "card such as" in remedy


def test_the_smaller_model_that_is_offered_does_fit():
    with pytest.raises(NothingFits) as failure:
        propose(wanted("sft_qlora", "meta-llama/Llama-3.1-70B", hardware(vram_gb=24)))
    smaller = failure.value.values["smaller"]

    assert propose(wanted("sft_qlora", smaller, hardware(vram_gb=24))).fit == "fits"


@pytest.mark.parametrize("leaf", ["rag", "dpo", "prompt_engineering", ""])
def test_a_leaf_without_a_trainer_is_refused_with_those_that_have_one(leaf):
    with pytest.raises(NotTrained) as failure:
        propose(wanted(leaf))

    assert "sft_lora" in failure.value.remedy.format(**failure.value.values)


def test_a_model_without_a_formula_gets_no_plan():
    with pytest.raises(Unsupported):
        propose(wanted(name="Qwen/Qwen3.5-9B"))


def test_nothing_to_train_on_is_refused():
    with pytest.raises(BadValue):
        propose(wanted(stats=DataStats(0, 0, 0, 0, 0, 0.0, "tokenizer")))


@pytest.mark.parametrize(
    ("leaf", "kind"),
    [("sft_full", Full), ("sft_partial_freeze", LastLayers), ("sft_lora", Lora), ("sft_qlora", Lora)],
)
def test_a_leaf_decides_what_moves(leaf, kind):
    found = propose(wanted(leaf, "Qwen/Qwen3-0.6B")).plan.adaptation

    assert isinstance(found, kind)
    assert getattr(found, "base", None) == {"sft_lora": "dense", "sft_qlora": "nf4"}.get(leaf)


@pytest.mark.parametrize(
    ("count", "epochs", "batch"), [(120, 5, 8), (60, 5, 4), (400, 3, 8), (2_000, 3, 16), (60_000, 1, 16)]
)
def test_small_data_is_seen_more_often_in_smaller_batches(count, epochs, batch):
    found = defaults.batch_rows(rows(count)).value

    assert found == batch
    assert defaults.epochs(rows(count), found).value == epochs


@pytest.mark.parametrize(
    ("shape", "adaptation", "rate"),
    [
        (tiny(), Lora(), 3e-3),
        (tiny(), Full(), 1e-3),
        (tiny(), LastLayers(layers=1), 1e-3),
        (model("Qwen/Qwen3-8B"), Lora(), 2e-4),
        (model("Qwen/Qwen3-8B"), Full(), 2e-5),
        (model("meta-llama/Llama-3.1-70B"), Lora(base="nf4"), 1e-4),
    ],
)
def test_the_learning_rate_follows_method_and_size(shape, adaptation, rate):
    assert defaults.learning_rate(adaptation, shape, rows(2_000), 3, 16).value == rate


def test_the_learning_rate_is_halved_for_little_data_and_follows_the_root_of_the_batch():
    eight = model("Qwen/Qwen3-8B")

    assert defaults.learning_rate(Lora(), eight, rows(200), 3, 16).value == 1e-4
    assert defaults.learning_rate(Lora(), eight, rows(2_000), 4, 16).value == 1e-4
    assert defaults.learning_rate(Lora(), eight, rows(2_000), 3, 4).value == 1e-4


def test_rows_are_as_long_as_the_data_and_never_longer_than_the_model_reads():
    shape = model("Qwen/Qwen3-8B")
    outlier = replace(STATS, longest_tokens=9_000, p99_tokens=1_500)

    assert defaults.length_tokens(STATS, shape).value == 1856
    assert defaults.length_tokens(outlier, shape).value == 1536
    assert defaults.length_tokens(STATS, tiny()).value == 512


def test_old_cards_and_cpus_compute_in_float32_and_new_cards_in_bfloat16():
    cpu = Hardware("cpu", "CPU", 16 * GIB)

    assert [defaults.dtype(machine).value for machine in (cpu, hardware(gpu="T4"), hardware(gpu="L4"))] == [
        "float32",
        "float32",
        "bfloat16",
    ]


def test_a_cpu_gets_a_plan_for_a_cpu_with_a_time_from_its_measured_rate():
    machine = Hardware("cpu", "CPU", 8 * GIB, forward_tokens_per_second=20_000.0)
    small = Wanted("sft_lora", "voice", "base", tiny(), FILES, rows(400, mean=60), Evaluation(), machine)
    found = propose(small)

    assert (found.plan.layout.device, found.plan.model.dtype) == ("cpu", "float32")
    assert 100 <= defaults.steps(
        small.stats, found.plan.schedule.epochs, found.plan.schedule.micro_batch_tokens, 1
    )
    assert found.plan.predicted.seconds_low < found.plan.predicted.seconds_high < 120


def test_a_plan_is_the_schema_and_nothing_more():
    assert isinstance(propose(wanted()).plan, Plan)


def test_the_table_shows_for_each_method_the_largest_model_that_fits():
    found = table(24 * GIB)
    largest = {row.method: row for row in found if row.largest}

    assert set(largest) == set(METHODS)
    assert all(row.verdict == "fits" and row.needs_bytes < 24 * GIB for row in largest.values())
    assert largest["full"].parameters < largest["lora"].parameters < largest["qlora"].parameters
    assert {row.model for row in found if not row.largest} == set(WELL_KNOWN)


def test_a_smaller_method_never_needs_more():
    by_model = {}
    for row in table(24 * GIB):
        if not row.largest:
            by_model.setdefault(row.model, []).append(row.needs_bytes)

    assert all(needs == sorted(needs, reverse=True) for needs in by_model.values())


def test_nothing_fits_on_a_card_of_one_gibibyte():
    assert [row for row in table(GIB) if row.verdict == "fits"] == []
