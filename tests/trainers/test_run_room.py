"""A disk without room for what a run will write is found before it trains."""

from collections import namedtuple

import pytest
import tiny
from test_run import events, go, last

from recipes.exits import Exit
from recipes.plan import Full, Lora
from trainers.checkpoints import protocol
from trainers.run import room

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize("adaptation", [Full(), Lora(rank=4)], ids=["full", "lora"])
def test_what_a_checkpoint_needs_is_known_before_the_first_one(home, monkeypatch, adaptation):
    asked = []
    real = room.saved_bytes
    monkeypatch.setattr(room, "saved_bytes", lambda optimizer: asked.append(real(optimizer)) or asked[-1])
    go(home, tiny.plan(home, adaptation=adaptation, max_steps=2))
    saved = protocol.newest(home / "run/checkpoints").checkpoint

    assert asked[0] == pytest.approx(saved.bytes, rel=0.1, abs=20_000)  # names and shapes


def test_too_little_room_ends_the_run_before_its_first_step_with_the_sum(home, monkeypatch):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: Usage(2**30, 2**30 - 2**19, 2**19))
    code = go(home, tiny.plan(home, adaptation=Full(), keep_checkpoints=5))

    assert code == Exit.ENVIRONMENT
    assert not any(event["type"] == "step" for event in events(home))
    assert last(home)["code"] == "R0302"
    assert last(home)["values"]["count"] == 6
    assert "lower schedule.keep_checkpoints" in last(home)["remedy"]


def test_a_tokenizer_that_knows_more_tokens_than_the_model_is_refused_before_a_weight_is_read(
    home, monkeypatch
):
    from trainers import policy

    other = home / "other"
    tiny.write_model(other)
    longer = tiny.tokenizer()
    longer.add_tokens(["<|new|>"])
    longer.save_pretrained(other)
    read = []
    monkeypatch.setattr(policy.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: read.append(1))
    plan = tiny.plan(home)
    code = go(home, plan.model_copy(update={"model": plan.model.model_copy(update={"id": "other"})}))

    assert (code, read) == (Exit.USAGE, [])
    assert "<|new|>" in last(home)["msg"]
    assert "embeddings for 266" in last(home)["msg"]
