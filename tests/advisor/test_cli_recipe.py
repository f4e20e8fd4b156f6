"""`advisor recipe`: a directory that trains, whole or not at all, and never over something else."""

import json
from pathlib import Path

import pytest

from advisor.cli import main
from advisor.data.store import read_rows, sha256
from recipes.read import read

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 300,
    "max_position_embeddings": 512, "tie_word_embeddings": True, "head_dim": 32,
}  # fmt: skip


@pytest.fixture
def advisor(capsys):
    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").touch()
    return folder


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "Harbour Talk.jsonl"
    rows = [{"prompt": f"Where is pier {i}?", "completion": f"Pier {i} is by the sea."} for i in range(60)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _plan(folder):
    return read((folder / "recipe.toml").read_text(encoding="utf-8"))


def test_a_recipe_binds_its_rows_and_holds_some_out(advisor, base, data, tmp_path):
    out = tmp_path / "out"
    code, said, err = advisor(
        "recipe", "--data", data, "--model", base, "-o", out, "--vram", "8", "--prompt", "Speak."
    )
    plan = _plan(out)

    assert code == 0, err
    assert plan.name == "harbour-talk"
    assert plan.data.train_sha256 == sha256(out / plan.data.train)
    assert plan.data.held_out_sha256 == sha256(out / plan.data.held_out)
    assert len(read_rows(out / plan.data.train)) + len(read_rows(out / plan.data.held_out)) == 60
    assert (plan.evaluation.prompt, plan.evaluation.rows, plan.predicted is not None) == ("Speak.", 20, True)
    assert Path(plan.model.id).is_absolute()
    assert "advisor train" in said
    assert "nothing was decided" in err


def test_the_same_request_writes_the_same_recipe_again(advisor, base, data, tmp_path):
    words = (
        "recipe",
        "--data",
        data,
        "--model",
        base,
        "-o",
        tmp_path / "out",
        "--vram",
        "8",
        "--leaf",
        "sft_full",
    )
    advisor(*words)
    first = (tmp_path / "out" / "recipe.toml").read_bytes()

    assert advisor(*words)[0] == 0
    assert (tmp_path / "out" / "recipe.toml").read_bytes() == first


def test_a_recipe_that_was_edited_is_kept_when_another_one_is_written(advisor, base, data, tmp_path):
    words = ("recipe", "--data", data, "--model", base, "-o", tmp_path / "out", "--leaf", "sft_lora")
    advisor(*words)
    edited = (tmp_path / "out" / "recipe.toml").read_text() + "# mine\n"
    (tmp_path / "out" / "recipe.toml").write_text(edited)

    assert advisor(*words)[0] == 0
    assert advisor(*words)[0] == 0
    assert [p.read_text() for p in sorted((tmp_path / "out").glob("*.earlier.toml"))] == [edited]


def test_a_directory_of_something_else_is_left_alone(advisor, base, data, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    code, _, err = advisor("recipe", "--data", data, "--model", base, "-o", out)

    assert code == 4
    assert "thesis.txt" in err
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_a_run_directory_is_not_taken_for_a_recipes(advisor, base, data, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    for name in ("recipe.toml", "events.jsonl"):
        (out / name).touch()

    assert advisor("recipe", "--data", data, "--model", base, "-o", out)[0] == 4


def test_a_dry_run_writes_nothing(advisor, base, data, tmp_path):
    code, said, _ = advisor(
        "recipe", "--data", data, "--model", base, "-o", tmp_path / "out", "--vram", "8", "-n", "--json"
    )
    told = json.loads(said)["data"]

    assert (code, told["written"], told["plan"]["name"]) == (0, False, "harbour-talk")
    assert not (tmp_path / "out").exists()


def test_fields_set_by_hand_are_in_the_recipe_and_change_the_estimate(advisor, base, data, tmp_path):
    words = ("recipe", "--data", data, "--model", base, "--vram", "8", "-o")
    advisor(*words, tmp_path / "a")
    advisor(
        *words,
        tmp_path / "b",
        "--set",
        "schedule.epochs=2",
        "--set",
        "adaptation.rank=64",
        "--set",
        "name=other",
    )
    plain, changed = _plan(tmp_path / "a"), _plan(tmp_path / "b")

    assert (changed.schedule.epochs, changed.adaptation.rank, changed.name) == (2.0, 64, "other")
    assert changed.predicted.peak_bytes > plain.predicted.peak_bytes
    assert "# set by you" in (tmp_path / "b" / "recipe.toml").read_text()


def test_all_wrong_fields_are_named_at_once_and_nothing_is_written(advisor, base, data, tmp_path):
    wrong = ("schedule.epoch=1", "schedule.learning_rate=-1", "foo.bar=1", "model.dtype=int3")
    words = [word for pair in wrong for word in ("--set", pair)]
    code, _, err = advisor(
        "recipe", "--data", data, "--model", base, "-o", tmp_path / "out", "--vram", "8", *words
    )

    assert code == 2
    assert all(
        text in err for text in ("did you mean epochs", "learning_rate = -1", "unknown key foo", "int3")
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "pair", ["nonsense", "a b=1", "name.x=1", "=1", "x\n[y]=1", "schedule.epochs=nan", "name=../up"]
)
def test_a_field_that_is_none_is_a_usage_error(advisor, base, data, tmp_path, pair):
    assert (
        advisor(
            "recipe", "--data", data, "--model", base, "-o", tmp_path / "o", "--vram", "8", "--set", pair
        )[0]
        == 2
    )


def test_a_model_without_weights_or_with_pickles_only_is_refused(advisor, base, data, tmp_path):
    (base / "model.safetensors").unlink()
    words = ("recipe", "--data", data, "--model", base, "-o", tmp_path / "out")

    assert advisor(*words)[0] == 2
    (base / "pytorch_model.bin").touch()
    assert advisor(*words)[0] == 6


def test_an_unknown_model_gets_a_guess(advisor, data, tmp_path):
    code, _, err = advisor("recipe", "--data", data, "--model", "Qwen/Qwen3-8bb", "-o", tmp_path / "out")

    assert code == 2
    assert "Qwen/Qwen3-8B" in err


def test_facts_choose_the_method_and_may_say_no(advisor, base, data, tmp_path):
    words = ("recipe", "--data", data, "--model", base, "-o", tmp_path / "out", "--vram", "8")
    code, _, err = advisor(*words, "--fact", "lacks_knowledge=yes", "--fact", "knowledge_change=daily")

    assert code == 2
    assert "rag" in err
    assert not (tmp_path / "out").exists()
    assert advisor(*words, "--fact", "lacks_style_format=yes", "--fact", "prompt_can_fix=no")[0] == 0


def test_the_script_is_written_beside_the_recipe(advisor, base, data, tmp_path):
    out = tmp_path / "out"
    code, said, _ = advisor(
        "recipe", "--data", data, "--model", base, "-o", out, "--vram", "8", "--target", "script"
    )

    assert code == 0
    assert json.loads((out / "recipe.json").read_text()) == _plan(out).model_dump(
        mode="json", exclude_none=True
    )
    assert (out / "train.py").is_file()
    assert f"python {out}/train.py" in said


def test_a_script_for_several_processes_is_refused(advisor, base, data, tmp_path):
    words = ("--target", "script", "--set", "layout.processes=2")
    code, _, err = advisor(
        "recipe", "--data", data, "--model", base, "-o", tmp_path / "out", "--vram", "8", *words
    )

    assert code == 2
    assert "one process" in err


def test_hostile_names_stay_text(advisor, base, tmp_path):
    path = tmp_path / 'x"; import os #\u2028{{ 7 }}.jsonl'
    rows = [{"prompt": f"a {i}", "completion": "\"\"\"'''\x7f"} for i in range(60)]
    path.write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out"
    code, said, _ = advisor(
        "recipe", "--data", path, "--model", base, "-o", out, "--vram", "8", "--target", "script", "--prompt", '"""\n[x]\x1b{{ 7 }}'
    )  # fmt: skip

    assert code == 0
    assert _plan(out).evaluation.prompt == '"""\n[x]\x1b{{ 7 }}'
    assert "\x1b" not in said
    assert not [c for c in (out / "recipe.json").read_text() if ord(c) > 126]


def test_a_measurement_chooses_the_method_and_tells_the_time(advisor, base, data, tmp_path):
    rate = {"value": 1.0, "low": 0.9, "high": 1.0, "n": 100}
    never = {"value": 0.0, "low": 0.0, "high": 0.1, "n": 100}
    arm = {
        "name": "base",
        "scores": {"fact": rate, "style": never, "exact": never},
        "prompt_tokens": 9,
        "seconds": 1,
    }
    report = {
        "run": "m", "model": "base", "primary": "exact", "held_out_rows": 100, "verdict": "not_trained",
        "arms": [arm, {**arm, "name": "prompt"}, {**arm, "name": "few_shot", "shots": 3}],
        "versions": {}, "machine": {}, "forward_tokens_per_second": 30000.0, "finished": "2026-11-20T12:00:00Z",
    }  # fmt: skip
    (tmp_path / "report.json").write_text(json.dumps(report))
    words = ("--data", data, "--model", base, "-o", tmp_path / "out", "--report", tmp_path / "report.json")
    facts = (
        "--fact",
        "label_quality=gold",
        "--fact",
        "style_stable=yes",
        "--fact",
        "task_type=style_generation",
    )
    code, _, err = advisor("recipe", *words, *facts)
    plan = read((tmp_path / "out" / "recipe.toml").read_text())

    assert (code, "the facts lead to sft_lora" in err) == (0, True)
    assert 0 < plan.predicted.seconds_low < plan.predicted.seconds_high


def test_a_score_that_the_rows_do_not_have_is_refused_before_anything_runs(advisor, base, data, tmp_path):
    words = (
        "--data",
        data,
        "--model",
        base,
        "-o",
        tmp_path / "out",
        "--leaf",
        "sft_lora",
        "--primary",
        "nope",
    )
    code, _, err = advisor("recipe", *words)

    assert (code, "exact" in err, (tmp_path / "out").exists()) == (2, True, False)
