"""The same bits each time: the wish of a recipe reaches torch, cuBLAS and attention, and what cannot be had is said."""

import json
import os
from types import SimpleNamespace

import pytest
import tiny
import torch

from recipes.exits import Exit
from recipes.plan import Layout
from trainers.engine import determinism
from trainers.engine.accelerated import Accelerated
from trainers.policy import attention
from trainers.run import session, train

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # peft on new transformers


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    monkeypatch.delenv(determinism.WORKSPACE, raising=False)
    yield
    determinism.settle(Layout())


@pytest.fixture
def at_each_step(monkeypatch):
    def plant(deed):
        real = session._tell
        monkeypatch.setattr(session, "_tell", lambda *told: (deed(), real(*told)))

    return plant


def go(home, run="run", **layout):
    plan = tiny.plan(home)
    plan = plan.model_copy(update={"layout": plan.layout.model_copy(update=layout)})
    return train(tiny.write_recipe(home, plan), home / run, resume=False, accept_changes=False)


def last(home, run="run"):
    return json.loads((home / run / "events.jsonl").read_bytes().splitlines()[-1])


@pytest.mark.parametrize("wish", [True, False])
def test_a_run_has_what_its_recipe_wishes_and_the_next_one_has_its_own(home, at_each_step, wish):
    seen = set()
    torch.use_deterministic_algorithms(not wish)
    at_each_step(
        lambda: seen.add(
            (torch.are_deterministic_algorithms_enabled(), os.environ.get(determinism.WORKSPACE))
        )
    )

    assert go(home, deterministic=wish) == Exit.OK
    assert seen == {(wish, ":4096:8" if wish else None)}


def test_two_runs_end_with_the_same_bits(home):
    for run in ("one", "two"):
        assert go(home, run, deterministic=True) == Exit.OK

    one, two = ((home / run / "output/adapter_model.safetensors").read_bytes() for run in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("given, kept", [(":16:8", ":16:8"), (":8192:2", ":4096:8")])
def test_a_workspace_that_keeps_the_bits_is_kept(monkeypatch, given, kept):
    monkeypatch.setenv(determinism.WORKSPACE, given)
    Accelerated(Layout(device="cpu", deterministic=True))

    assert os.environ[determinism.WORKSPACE] == kept


def test_attention_leaves_the_kernel_that_adds_in_any_order():
    on_a_gpu = SimpleNamespace(is_cuda=True, dtype=torch.bfloat16)

    assert attention._suits_kernel(on_a_gpu, 0.0, None)
    determinism.settle(Layout(deterministic=True))
    assert not attention._suits_kernel(on_a_gpu, 0.0, None)


def test_an_operation_without_a_fixed_order_is_named_with_what_to_change(home, at_each_step, capsys):
    at_each_step(lambda: torch.ones(3).put_(torch.tensor([0]), torch.tensor([1.0])))

    assert go(home, "free") == Exit.OK
    assert go(home, "fixed", deterministic=True) == Exit.USAGE
    said, shown = last(home, "fixed"), capsys.readouterr().err
    assert (said["type"], said["exit"]) == ("error", Exit.USAGE)
    assert "put_" in shown
    assert "layout.deterministic" in shown
    assert "Traceback" not in shown
