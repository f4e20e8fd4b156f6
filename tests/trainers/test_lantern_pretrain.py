"""Needs torch, so it stands with the trainers' tests: what the pre-training script of the embedded base does."""

import importlib.util
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

ROOT = Path(__file__).parents[2]
BASE = ROOT / "advisor" / "learn" / "lantern" / "base"


@pytest.fixture(scope="module")
def pretrain():
    spec = importlib.util.spec_from_file_location(
        "lantern_pretrain", ROOT / "benchmarks" / "lantern" / "pretrain.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def tokenizer(pretrain):
    return pretrain.train_tokenizer()


def test_the_script_makes_the_shipped_tokenizer(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)

    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (BASE / name).read_bytes(), name


def test_a_few_steps_of_pre_training_lower_the_loss(pretrain, tokenizer, monkeypatch):
    monkeypatch.setattr(pretrain, "probe", lambda *_, **__: {})  # costs more than the steps
    torch.manual_seed(0)
    log = pretrain.train(pretrain.untrained(), pretrain.ids_of(tokenizer), steps=12, seed=0, every=1)

    assert log[-1]["loss"] < log[0]["loss"]


def test_a_document_never_spans_two_rows(pretrain, tokenizer):
    ids_BT, weights_BT = next(pretrain.batches(pretrain.ids_of(tokenizer), 1, lambda: 0.5))

    assert (ids_BT[:, 0] == pretrain.BOS).all()
    assert (weights_BT[ids_BT == pretrain.PAD] == 0).all()


def test_copying_fades_and_the_shares_stay_a_whole(pretrain):
    first, last = pretrain.mixture(0.0), pretrain.mixture(1.0)

    assert (first[-1].share, last[-1].share) == (0.5, 0.04)
    assert all(abs(sum(kind.share for kind in kinds) - 1) < 1e-9 for kinds in (first, last))
