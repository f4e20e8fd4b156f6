"""A dry run as the advisor asks for it: a process of the trainer, and its answer beside the closed form."""

import json
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from advisor.catalog.models import Moe, models
from advisor.cli import main
from advisor.errors import MissingPackage
from advisor.run import dry
from advisor.run.dry_config import NoConfig, config
from advisor.show import dry as show
from recipes.exits import Exit
from recipes.plan import Data, Lora, Model, Plan, Schedule
from recipes.write import write

GIB = 2**30
ANSWER = {
    "moments": {"load": 15 * GIB, "forward": 20 * GIB, "loss": 22 * GIB, "step": 16 * GIB},
    "reserved": None,
    "layers": 36,
    "depths": [3, 4],
    "cpu_seconds": 1.5,
    "versions": {"torch": "2.13.0"},
}


@pytest.fixture
def recipe(tmp_path):
    plan = Plan(
        name="dry",
        model=Model(id="Qwen/Qwen3-8B"),
        adaptation=Lora(),
        data=Data(
            train="t", train_sha256="0" * 64, held_out="h", held_out_sha256="0" * 64, length_tokens=2048
        ),
        schedule=Schedule(epochs=1, micro_batch_tokens=4096, learning_rate=1e-4, checkpointing=True),
    )
    path = tmp_path / "recipe.toml"
    path.write_text(write(plan, {}), encoding="utf-8")
    return path


@pytest.fixture
def trainer(monkeypatch):
    """A trainer that answers as it is told, and keeps what it was asked."""
    asked = []

    def answers(out="", err="", code=0):
        def started(words, **_):
            given = [path for flag, path in pairwise(words) if flag == "--config"]
            asked.append((words, [json.loads(Path(path).read_text()) for path in given]))
            return subprocess.CompletedProcess(words, code, out, err)

        monkeypatch.setattr(dry.subprocess, "run", started)
        monkeypatch.setattr(dry, "needs", lambda: None)
        return asked

    return answers


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["--lang", "en", *words])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def test_a_model_of_the_catalogue_is_handed_over_as_a_config(recipe, trainer, capsys):
    asked = trainer(json.dumps(ANSWER))
    code, out, _ = run(capsys, "estimate", "--dry-run", str(recipe))
    ((words, (handed,)),) = asked

    assert code == Exit.OK
    assert words[1:5] == ["-P", "-m", "trainers", "dry-run"]
    assert (handed["model_type"], handed["num_hidden_layers"], handed["head_dim"]) == ("qwen3", 36, 128)
    assert "22.0 GiB" in out


def test_both_figures_are_told_and_a_contradiction_is_a_warning(recipe, trainer, capsys):
    trainer(json.dumps(ANSWER))
    code, out, _ = run(capsys, "estimate", "--dry-run", str(recipe), "--json")
    found = json.loads(out)["data"]

    assert code == Exit.OK
    assert found["dry_run"]["peak_allocated_bytes"] == 22 * GIB
    assert found["closed_form"]["peak_allocated_bytes"] == max(found["closed_form"]["moments"].values())
    assert found["disagree"] is show.apart(found["closed_form"]["peak_allocated_bytes"], 22 * GIB)


@pytest.mark.parametrize(("closed", "warns"), [(102, False), (98, False), (104, True), (96, True)])
def test_more_than_three_per_cent_is_a_warning_and_never_an_average(closed, warns):
    text = show.text({"loss": closed * GIB, "step": GIB}, {"loss": 100 * GIB})

    assert ("warning" in text) is warns
    assert "100.0 GiB" in text
    assert f"{closed}.0 GiB" in text


def test_where_no_formula_knows_the_model_the_dry_run_stands_alone(recipe, trainer, capsys, tmp_path):
    asked = trainer(json.dumps(ANSWER))
    sizes = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text(
        json.dumps({"model_type": "mamba3", "vocab_size": 99, **sizes})
    )
    recipe.write_text(recipe.read_text().replace("Qwen/Qwen3-8B", "odd"))
    code, out, err = run(capsys, "estimate", "--dry-run", str(recipe))

    assert code == Exit.OK
    assert asked[0][1] == []  # its own config.json is there
    assert "no formula" in err
    assert "22.0 GiB" in out


@pytest.mark.parametrize(
    ("out", "err", "code", "says"),
    [
        (
            "",
            "noise\nerror[M0100]: x: there is no config.json\nhelp: give it\n",
            2,
            "there is no config.json",
        ),
        ("", "", -9, "exit -9"),
        ("nonsense", "", 0, "nonsense"),
        ('{"moments": 3}', "", 0, "moments"),
    ],
)
def test_a_trainer_that_fails_is_told_in_its_own_words(recipe, trainer, capsys, out, err, code, says):
    trainer(out, err, code)
    ended, _, said = run(capsys, "estimate", "--dry-run", str(recipe))

    assert ended == Exit.USAGE
    assert says in said
    assert "Traceback" not in said


def test_without_the_trainer_s_packages_it_says_what_to_install(recipe, monkeypatch, capsys):
    monkeypatch.setattr("advisor.run.start.find_spec", lambda _: None)
    code, _, err = run(capsys, "estimate", "--dry-run", str(recipe))

    assert code == MissingPackage.exit_code == Exit.ENVIRONMENT
    assert "finetune-advisor[train]" in err


@pytest.mark.parametrize("words", [["--dry-run", "--model", "qwen3-8b"], ["--reserved"]])
def test_a_dry_run_is_of_a_recipe(recipe, capsys, words):
    code, _, err = run(capsys, "estimate", *(words if "--model" in words else [str(recipe), *words]))

    assert code == Exit.USAGE
    assert "--dry-run goes with a recipe" in err


# --- a configuration from dimensions ---


def test_every_model_with_a_closed_form_has_a_config_but_uneven_experts():
    refused = []
    for shape in models().values():
        if shape.estimator in ("closed_form", "closed_form_moe"):
            try:
                assert config(shape)["vocab_size"] == shape.vocabulary
            except NoConfig:
                refused.append(shape)

    assert all(shape.moe is not None and (shape.moe.shared or shape.moe.first_dense) for shape in refused)


def test_a_bias_on_queries_makes_another_architecture():
    assert config(models()["Qwen/Qwen2.5-7B"])["model_type"] == "qwen2"
    assert config(models()["meta-llama/Llama-3.1-8B"])["model_type"] == "llama"


def test_a_mixture_names_its_experts():
    mixture = next(
        s for s in models().values() if s.moe == Moe(experts=8, active=2, mlp=14336) and s.block == "llama"
    )
    found = config(mixture)

    assert (found["model_type"], found["num_local_experts"], found["num_experts_per_tok"]) == (
        "mixtral",
        8,
        2,
    )


def test_the_real_trainer_answers(recipe, capsys, tmp_path):
    small = {
        "model_type": "llama",
        "num_hidden_layers": 3,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 512,
    }
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "config.json").write_text(json.dumps(small))
    recipe.write_text(recipe.read_text().replace("Qwen/Qwen3-8B", "small"))
    code, out, err = run(capsys, "estimate", "--dry-run", str(recipe), "--json")

    assert code == Exit.OK, err
    found = json.loads(out)["data"]
    assert found["dry_run"]["depths"] == [3]
    assert found["dry_run"]["moments"]["loss"] > found["dry_run"]["moments"]["load"]
