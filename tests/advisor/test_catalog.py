"""The catalogue: facts with sources, names found or guessed at, models on disk read with suspicion."""

import json
from datetime import date, timedelta

import pytest

from advisor.catalog.config import ConfigError
from advisor.catalog.devices import available_memory
from advisor.catalog.gpus import (
    USABLE_SHARE,
    Hardware,
    UnknownMemory,
    detect,
    gpu,
    gpus,
    hardware,
)
from advisor.catalog.models import model, models
from advisor.catalog.sources import sources
from advisor.errors import BadValue, UnknownName
from advisor.estimate.shapes import parameters
from advisor.units import GIB, MIB

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
    "tie_word_embeddings": True,
    "max_position_embeddings": 512,
}


def directory(tmp_path, **changes):
    config = {**LLAMA, **changes}
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return str(tmp_path)


def remedy(failure):
    return failure.value.remedy.format(**failure.value.values)


def test_every_row_has_a_source_and_a_date_and_none_is_older_than_a_year():
    rows = [*models().values(), *gpus().values()]

    assert all(row.source and row.checked for row in rows)
    assert min(row.checked for row in rows) > date.today() - timedelta(days=366)


def test_the_computed_parameters_are_those_that_a_second_program_counted():
    known = [
        s
        for s in models().values()
        if s.estimator.startswith("closed") and "meta device" in s.reference_source
    ]
    wrong = [s.name for s in known if parameters(s) != s.reference_parameters]

    assert len(known) > 50
    assert wrong == []


def test_the_computed_parameters_are_near_the_published_ones():
    known = [
        s for s in models().values() if s.estimator == "closed_form" and s.verified and s.published_parameters
    ]
    off = {s.name: parameters(s) / s.published_parameters - 1 for s in known}

    assert len(known) > 20
    assert {name for name, share in off.items() if abs(share) > 0.08} == set()


def test_a_model_is_found_in_any_case_and_without_its_publisher():
    assert model("qwen/qwen3-8b") is model("Qwen3-8B") is models()["Qwen/Qwen3-8B"]


def test_an_unknown_model_is_answered_with_the_nearest_names():
    with pytest.raises(UnknownName) as failure:
        model("Qwen/Qwen3-8X")

    assert "Qwen/Qwen3-8B" in remedy(failure)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("4090", "GeForce RTX 4090"),
        ("h100", "H100 SXM5 80GB"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM5 80GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM4 80GB"),
        ("Tesla T4", "T4"),
        ("5070", "GeForce RTX 5070"),
    ],
)
def test_a_gpu_is_found_by_the_words_that_people_and_drivers_use(typed, found):
    assert gpu(typed).name == found


@pytest.mark.parametrize("typed", ["rtx", "geforce", "", "B2000", "GeForce RTX 4070 Ti"])
def test_a_name_that_could_mean_several_gpus_or_none_is_not_guessed(typed):
    with pytest.raises(UnknownName):
        gpu(typed)


def test_an_unknown_gpu_is_answered_with_the_nearest_names():
    with pytest.raises(UnknownName) as failure:
        gpu("B2000")

    assert "B200" in remedy(failure)


def test_measured_usable_memory_wins_over_the_share_of_the_size():
    assert gpu("H100 SXM5 80GB").usable_bytes == 79_000 * MIB
    assert gpu("A40").usable_bytes == int(48 * GIB * USABLE_SHARE)


@pytest.mark.parametrize("size", [0, -1, 1e9, float("nan"), float("inf")])
def test_a_card_of_impossible_size_is_refused(size):
    with pytest.raises(BadValue):
        hardware(vram_gb=size)


def test_a_card_without_a_known_size_asks_for_it():
    with pytest.raises(UnknownMemory):
        hardware(gpu="B300")

    assert hardware(vram_gb=288, gpu="B300").gpu.name == "B300"


def test_amd_and_apple_are_told_apart_from_what_was_tested():
    assert "AMD" in hardware(gpu="MI300X").note
    assert "Apple" in hardware(gpu="Apple M4 Max").note
    assert hardware(gpu="A40").note == ""


def test_cards_before_ampere_have_no_bfloat16():
    assert not hardware(gpu="T4").has_bf16
    assert hardware(gpu="A40").has_bf16
    assert not Hardware("cpu", "CPU", GIB).has_bf16


def test_this_computer_has_some_memory():
    assert detect().usable_bytes > 0


def test_available_memory_is_what_the_kernel_says(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable: 7 kB\n")

    assert available_memory(tmp_path / "meminfo") == 7 * 1024


def test_a_model_on_disk_is_read_from_its_config(tmp_path):
    shape = model(directory(tmp_path))

    assert (shape.layers, shape.hidden, shape.kv_heads, shape.head_width) == (2, 64, 2, 16)
    assert (shape.block, shape.estimator, shape.tied) == ("llama", "closed_form", True)


def test_the_language_part_of_a_larger_model_is_read(tmp_path):
    text = {**LLAMA, "model_type": "gemma3_text"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text}))

    assert model(str(tmp_path)).block == "gemma3"


def test_an_unknown_architecture_is_read_but_not_estimated(tmp_path):
    assert model(directory(tmp_path, model_type="mamba9")).estimator == "dry_run_required"


def test_all_missing_sizes_of_a_config_are_named_at_once(tmp_path):
    with pytest.raises(ConfigError) as failure:
        model(directory(tmp_path, hidden_size=None, vocab_size=None, intermediate_size="big"))

    assert {"hidden_size", "vocab_size", "intermediate_size"} <= set(
        failure.value.values["keys"].replace(" / ", ", ").split(", ")
    )


@pytest.mark.parametrize("value", [0, -3, True, 1.5, 10**12])
def test_an_impossible_size_of_a_config_is_refused(tmp_path, value):
    with pytest.raises(ConfigError):
        model(directory(tmp_path, hidden_size=value))


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 100_000, "\x00"])
def test_a_config_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)

    with pytest.raises(ConfigError):
        model(str(tmp_path))


def test_a_directory_without_a_config_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"config\.json"):
        model(str(tmp_path))


def test_experts_must_agree_with_each_other(tmp_path):
    with pytest.raises(ConfigError):
        model(directory(tmp_path, model_type="mixtral", num_local_experts=4, num_experts_per_tok=8))


def test_the_bibliography_tells_how_much_of_each_work_was_read():
    seen = {source.seen for source in sources().values()}

    assert seen <= {"full text", "excerpt", "memory", "measured", "ours", "given"}
