"""A model directory is looked at before anything of it is opened."""

import json
import shutil

import pytest
import tiny
import torch

from recipes.exits import Exit
from recipes.plan import Model
from trainers.errors import CodeRefused, MissingWeights, PickleRefused
from trainers.policy import load
from trainers.policy.source import find, sum_of

CPU = torch.device("cpu")


@pytest.fixture
def directory(tmp_path, base_files):
    return shutil.copytree(base_files, tmp_path / "base")


def look(directory):
    return find(Model(id=directory.name), directory.parent)


def test_a_whole_model_is_found_relative_to_the_recipe(directory):
    assert look(directory).directory == directory.resolve()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt"])
def test_weights_that_exist_only_as_a_pickle_are_refused(directory, name):
    (directory / "model.safetensors").rename(directory / name)

    with pytest.raises(PickleRefused, match=name) as caught:
        load(Model(id="base"), directory.parent, CPU)
    assert caught.value.exit_code is Exit.REFUSED


def test_a_pickle_beside_safetensors_is_never_opened(directory, monkeypatch):
    (directory / "pytorch_model.bin").write_bytes(b"\x80\x04canary")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))

    assert load(Model(id="base", dtype="float32"), directory.parent, CPU).model is not None


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_part_is_named(directory, name):
    (directory / name).unlink()

    with pytest.raises(MissingWeights, match=r"config\.json|safetensors") as caught:
        look(directory)
    assert caught.value.exit_code is Exit.USAGE


def test_a_model_that_brings_code_is_refused(directory):
    (directory / "modeling_mine.py").write_text("raise SystemExit")

    with pytest.raises(CodeRefused, match=r"modeling_mine\.py"):
        look(directory)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_configuration_that_asks_for_code_is_refused_also_when_it_is_nested(directory, file):
    path = directory / file
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, "text_config": {"auto_map": {"AutoModel": "mine.Model"}}}))

    with pytest.raises(CodeRefused, match=file):
        look(directory)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/dev/zero", "other.safetensors"])
def test_a_part_that_the_index_names_outside_of_the_directory_is_refused(directory, shard):
    index = {"weight_map": {"lm_head.weight": shard}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(MissingWeights, match="a part of the weights is missing"):
        look(directory)


def test_a_directory_that_is_not_there_is_told_apart_from_a_hub_id(tmp_path):
    with pytest.raises(MissingWeights, match=r"there is no model directory \./nothing"):
        find(Model(id="./nothing"), tmp_path)


def test_a_hub_model_without_a_network_is_a_plain_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(MissingWeights, match="someone/some-model"):
        find(Model(id="someone/some-model"), tmp_path)


def test_weights_that_transformers_cannot_read_are_a_plain_sentence(directory):
    (directory / "model.safetensors").write_bytes(b"not safetensors at all")

    with pytest.raises(MissingWeights, match="transformers cannot load it"):
        load(Model(id="base"), directory.parent, CPU)


def test_the_sum_of_a_model_changes_with_one_bit_of_its_weights(directory):
    before = sum_of(look(directory))
    data = bytearray((directory / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (directory / "model.safetensors").write_bytes(data)

    assert sum_of(look(directory)) != before


def test_generation_stops_at_the_end_of_a_turn(directory):
    tokenizer = tiny.tokenizer(tiny.MARKED.replace("<|end|>", "<|system|>"))
    tokenizer.save_pretrained(directory)
    policy = load(Model(id="base", dtype="float32"), directory.parent, CPU)

    assert policy.model.generation_config.eos_token_id == [2, 3]


def test_a_model_without_a_template_gets_ours_and_it_is_saved(directory, tmp_path):
    (directory / "chat_template.jinja").unlink()
    policy = load(Model(id="base", dtype="float32"), directory.parent, CPU)
    policy.tokenizer.save_pretrained(tmp_path / "out")

    assert policy.own_template
    assert "Assistant:" in (tmp_path / "out" / "chat_template.jinja").read_text()
