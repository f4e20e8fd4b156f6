"""The commands of this room: estimate, plan, models, gpus."""

import json

import pytest

from advisor.cli import main
from recipes.exits import Exit
from recipes.read import read


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([*words])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def data_of(capsys, *words):
    code, out, _ = run(capsys, *words, "--json")

    assert code == Exit.OK
    return json.loads(out)["data"]


@pytest.fixture
def examples(tmp_path):
    path = tmp_path / "examples.jsonl"
    lines = [{"prompt": f"What is {i} plus one?", "completion": f"It is {i + 1}."} for i in range(700)]
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def test_all_methods_are_compared_in_one_table(capsys):
    code, out, _ = run(capsys, "--lang", "en", "estimate", "--model", "qwen3-8b", "--vram", "24")

    assert code == Exit.OK
    assert all(name in out for name in ("all weights", "last layers", "LoRA", "QLoRA", "what would lower it"))


def test_the_terms_in_json_sum_to_their_moments(capsys):
    for row in data_of(capsys, "estimate", "--model", "qwen3-8b", "--vram", "24"):
        assert all(sum(t["bytes"] for t in m["terms"]) == m["bytes"] for m in row["moments"])
        assert row["candidates"][row["winner"]] == row["peak_allocated_bytes"]


def test_what_does_not_fit_is_an_answer_unless_it_is_required_to_fit(capsys):
    words = ("estimate", "--model", "qwen3-8b", "--vram", "8", "--method", "full")

    assert run(capsys, *words)[0] == Exit.OK
    assert run(capsys, *words, "--require-fit")[0] == Exit.ENVIRONMENT


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("estimate",), "either a recipe or --model"),
        (("estimate", "--model", "qwen3-8x", "--vram", "8"), "Qwen/Qwen3-8B"),
        (("estimate", "--model", "qwen3-8b", "--gpu", "B2000"), "B200"),
        (("estimate", "--model", "qwen3-8b", "--vram", "-3"), "above 0"),
        (("estimate", "--model", "Qwen/Qwen3.5-9B", "--vram", "8"), "no formula"),
        (("models", "no-such-thing"), "no model called"),
        (("gpus", "no-such-thing"), "no GPU called"),
    ],
)
def test_a_wrong_word_is_answered_with_what_would_be_right(capsys, words, said):
    code, out, err = run(capsys, "--lang", "en", *words)

    assert (code, out) == (Exit.USAGE, "")
    assert said in err
    assert "Traceback" not in err


def test_a_plan_shows_each_value_with_its_reason(capsys, examples):
    code, out, _ = run(
        capsys,
        "--lang",
        "en",
        "plan",
        "--model",
        "qwen3-8b",
        "--data",
        examples,
        "--gpu",
        "4090",
        "--pick",
        "1",
    )

    assert code == Exit.OK
    assert "adaptation.rank = 16" in out
    assert "capacity is almost never the limit" in out


def test_a_plan_in_json_has_a_reason_for_each_field(capsys, examples):
    found = data_of(capsys, "plan", "--model", "qwen3-8b", "--data", examples, "--gpu", "4090")

    assert found["fit"] == "fits"
    assert found["why"]["schedule.learning_rate"]["source"] == "trl"


def test_a_plan_that_never_fits_ends_with_the_environment_code(capsys, examples):
    code, _, err = run(
        capsys, "--lang", "en", "plan", "--model", "llama-3.1-405b", "--data", examples, "--vram", "8"
    )

    assert code == Exit.ENVIRONMENT
    assert "choose" in err


def test_the_estimate_of_a_recipe_is_that_of_its_plan(capsys, examples, tmp_path):
    from recipes.plan import Plan
    from recipes.write import write

    found = data_of(capsys, "plan", "--model", "qwen3-8b", "--data", examples, "--gpu", "4090")
    plan = Plan.model_validate_json(json.dumps(found["plan"]))
    (tmp_path / "recipe.toml").write_text(write(plan, {}))
    (row,) = data_of(capsys, "estimate", str(tmp_path / "recipe.toml"), "--gpu", "4090")

    assert (
        row["peak_allocated_bytes"] >= found["peak_allocated_bytes"]
    )  # without the data every token is trained
    assert row["method"] == "lora"


def made(capsys, examples, out):
    words = ("--model", "qwen3-8b", "--gpu", "RTX 4090", "--pick", "1", "-o", str(out))
    assert run(capsys, "plan", "--data", examples, *words)[0] == Exit.OK
    return out / "recipe.toml"


def test_a_recipe_with_its_rows_is_timed_as_a_whole_run(capsys, examples, tmp_path):
    recipe = made(capsys, examples, tmp_path / "out")

    (whole,) = data_of(capsys, "estimate", str(recipe), "--gpu", "RTX 4090")
    (recipe.parent / read(recipe.read_text()).data.train).unlink()
    (without,) = data_of(capsys, "estimate", str(recipe), "--gpu", "RTX 4090")

    assert (whole["time"]["of"], without["time"]["of"]) == ("run", "million_tokens")
    assert 0 < whole["time"]["seconds"]["low"] < without["time"]["seconds"]["low"]


def test_step_pace_energy_and_rent_are_told_as_intervals_with_their_date(capsys):
    words = ("estimate", "--model", "qwen3-8b", "--method", "lora", "--gpu", "RTX 4090")
    _, out, _ = run(capsys, "--lang", "en", *words)

    for word in ("step ", "pace ", "energy ", "rent "):
        assert any(line.startswith(word) and " to " in line for line in out.splitlines())
    assert "USD at prices of 20" in out


def test_without_rates_the_reason_stands_where_the_time_would(capsys):
    words = ("estimate", "--model", "qwen3-8b", "--method", "lora", "--vram", "24")
    _, out, _ = run(capsys, "--lang", "en", *words)
    (line,) = data_of(capsys, *words)

    assert "time   not known: the card is known by its memory alone" in out
    assert line["time"]["seconds"] is None and "memory alone" in line["time"]["untimed"]


def test_models_can_be_filtered(capsys):
    found = data_of(capsys, "models", "gemma-3")

    assert found
    assert all("gemma-3" in row["name"] for row in found)


def test_gpus_tell_what_is_here(capsys):
    found = data_of(capsys, "gpus", "h100")

    assert found["here"]["usable_bytes"] > 0
    assert all("H100" in row["name"] for row in found["gpus"])


def records(tmp_path, *rows):
    path = tmp_path / "records.json"
    path.write_text(json.dumps(rows[0] if len(rows) == 1 else list(rows)))
    return str(path)


A100 = {
    "id": "one",
    "model": "mistralai/Mistral-7B-v0.1",
    "method": "lora",
    "lora_rank": 16,
    "lora_targets": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "seq_len": 4096,
    "micro_batch": 4,
    "grad_ckpt": True,
    "weights_dtype": "bf16",
    "adapter_dtype": "fp32",
    "loss": "full_fp32_upcast",
    "optimizer": "adamw_foreach",
    "versions": {"transformers": "4.48.1"},
    "profile": "trl",
    "gpu": "A100 SXM4 80GB",
    "lora_dropout": None,
}


def test_a_batch_is_answered_in_order_and_one_bad_record_disturbs_no_other(capsys, tmp_path):
    path = records(tmp_path, A100, {**A100, "id": "two", "seq_len": 0}, 7, {**A100, "id": "three"})
    first, second, third, fourth = data_of(capsys, "estimate", "--spec", path)

    assert (first["id"], second["id"], fourth["id"]) == ("one", "two", "three")
    assert [row["status"] for row in (first, second, third)] == ["ok", "unsupported", "unsupported"]
    assert "seq_len" in second["reason"]
    assert first["peak_allocated_bytes"] == pytest.approx(26.705e9, rel=2e-3)
    assert sum(first["breakdown"].values()) == first["peak_allocated_bytes"]
    assert first["verdict"] == "fits"


def test_a_card_that_nobody_knows_gives_numbers_without_a_verdict_and_says_so(capsys, tmp_path):
    (row,) = data_of(
        capsys, "--lang", "en", "estimate", "--spec", records(tmp_path, {**A100, "gpu": "Z9000"})
    )

    assert (row["status"], row["verdict"]) == ("ok", None)
    assert any("Z9000" in warning for warning in row["warnings"])


def test_one_object_is_a_batch_of_one(capsys, tmp_path):
    assert [row["status"] for row in data_of(capsys, "estimate", "--spec", records(tmp_path, A100))] == ["ok"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"micro_batch": -1}, "micro_batch"),
        ({"micro_batch": True}, "micro_batch"),
        ({"seq_len": 10**9, "micro_batch": 10**9}, "seq_len"),
        ({"seq_len": None}, "seq_len"),
        ({"lora_rank": "16"}, "lora_rank"),
        ({"lora_targets": "q_proj"}, "lora_targets"),
        ({"lora_dropout": 3}, "lora_dropout"),
        ({"grad_ckpt": "yes"}, "grad_ckpt"),
        ({"model": None}, "model"),
        ({"model": "no/such"}, "no/such"),
        ({"model_config": {"hidden_size": 4}}, "num_hidden_layers"),
        ({"versions": "4.48.1"}, "versions"),
        ({"method": "magic"}, "magic"),
    ],
)
def test_a_record_with_an_impossible_field_is_refused_by_its_name(capsys, tmp_path, changes, named):
    (row,) = data_of(capsys, "--lang", "en", "estimate", "--spec", records(tmp_path, {**A100, **changes}))

    assert row["status"] == "unsupported"
    assert named in row["reason"]


@pytest.mark.parametrize("content", ["", "7", '"text"', "{", "[" * 100_000])
def test_a_file_without_records_is_a_usage_error(capsys, tmp_path, content):
    path = tmp_path / "records.json"
    path.write_text(content)
    code, _, err = run(capsys, "estimate", "--json", "--spec", str(path))

    assert code == Exit.USAGE
    assert "Traceback" not in err


def test_records_go_with_json_alone(capsys, tmp_path):
    path = records(tmp_path, A100)

    assert run(capsys, "estimate", "--spec", path)[0] == Exit.USAGE
    assert run(capsys, "estimate", "--spec", path, "--model", "qwen3-8b", "--json")[0] == Exit.USAGE


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        (
            ("--smaller", "1"),
            lambda row: 0 < (row["parameters"] or row.get("published_parameters", 0)) <= 1e9,
        ),
        (("--larger", "60", "--estimated"), lambda row: row["parameters"] >= 60e9),
        (("--licence", "apache"), lambda row: "apache" in row["licence"].lower()),
        (("--open",), lambda row: row["gated"] is False),
        (("--context", "200000"), lambda row: row["context"] >= 200_000),
    ],
)
def test_models_are_filtered_by_what_they_are(capsys, words, holds):
    found, everything = data_of(capsys, "models", *words), data_of(capsys, "models")

    assert all(holds(row) for row in found)
    assert 0 < len(found) < len(everything)


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        (("--vendor", "amd"), lambda row: row["vendor"] == "AMD"),
        (("--kind", "consumer"), lambda row: "consumer" in row["kind"]),
        (("--memory", "80"), lambda row: row["memory_gb"] >= 80),
        (("--rent", "1"), lambda row: row["price_low_usd"] <= 1),
    ],
)
def test_gpus_are_filtered_by_what_they_are(capsys, words, holds):
    found, everything = data_of(capsys, "gpus", *words)["gpus"], data_of(capsys, "gpus")["gpus"]

    assert all(holds(row) for row in found)
    assert 0 < len(found) < len(everything)


def test_a_model_on_disk_is_listed_from_its_config(capsys):
    from advisor.learn.lantern.base import base_dir

    (row,) = data_of(capsys, "models", str(base_dir()))

    assert row["parameters"] < 3e6
    assert row["source"].endswith("config.json")


@pytest.mark.parametrize(
    "words", [("models", "--larger", "5", "--smaller", "1"), ("gpus", "--rent", "0.0001")]
)
def test_filters_that_nothing_passes_say_so(capsys, words):
    code, out, _ = run(capsys, "--lang", "en", *words)

    assert code == Exit.OK
    assert "nothing in the catalogue" in out
