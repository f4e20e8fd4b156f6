"""Checkpoints: all or nothing, verified before use, and never a lie about what is saved."""

import errno
import json
import shutil

import pytest
import tiny
import torch

from recipes.exits import Exit
from recipes.plan import Schedule
from trainers.checkpoints import protocol, storage
from trainers.checkpoints.protocol import Contents, Progress
from trainers.errors import NoCheckpoint, NotFinite, SaveFailed
from trainers.optim import adamw

SCHEDULE = Schedule(epochs=1.0, micro_batch_tokens=64, learning_rate=1e-2)


def state(step=1, seed=0):
    """A model that has taken `step` steps."""
    model = tiny.model(seed)
    optimizer = adamw(model, SCHEDULE)
    for number in range(step):
        torch.manual_seed(number)
        for weight in model.parameters():
            weight.grad = torch.randn_like(weight)
        optimizer.step()
    optimizer.zero_grad()
    return Contents(
        model, optimizer, Progress(step=step, last_loss=1 / 3), {"seed": str(seed)}, {"torch": "x"}
    )


def failing(monkeypatch, name, at, number):
    """Make the `at`-th call of a call to the disk fail; how many there were is kept in the list."""
    real, calls = getattr(storage, name), []

    def call(*words):
        calls.append(words)
        if len(calls) == at:
            raise OSError(number, "planted")
        return real(*words)

    monkeypatch.setattr(storage, name, call)
    return calls


def test_what_is_saved_comes_back_bit_for_bit_and_trains_on_the_same(tmp_path):
    saved, fresh = state(3), state(0)
    protocol.commit(tmp_path, saved)
    found = protocol.newest(tmp_path).checkpoint
    protocol.restore(found, fresh.model, fresh.optimizer)
    for contents in (saved, fresh):
        torch.manual_seed(9)
        for weight in contents.model.parameters():
            weight.grad = torch.randn_like(weight)
        contents.optimizer.step()

    assert found.progress == saved.progress
    for mine, theirs in zip(fresh.model.parameters(), saved.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_checkpoint_holds_safetensors_and_json_only(tmp_path):
    path = protocol.commit(tmp_path, state()).path

    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}
    assert json.loads((path / "MANIFEST.json").read_text())["fingerprints"] == {"seed": "0"}


@pytest.mark.parametrize("hurt", ["flip", "cut", "remove", "manifest", "empty"])
def test_a_hurt_checkpoint_is_skipped_with_a_reason_and_the_one_before_is_used(tmp_path, hurt):
    protocol.commit(tmp_path, state(1))
    last = protocol.commit(tmp_path, state(2)).path
    file = last / "weights-00001.safetensors"
    data = bytearray(file.read_bytes())
    match hurt:
        case "flip":
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        case "cut":
            file.write_bytes(data[:-1])
        case "remove":
            file.unlink()
        case "manifest":
            (last / "MANIFEST.json").unlink()
        case "empty":
            shutil.rmtree(last)
            last.mkdir()
    found = protocol.newest(tmp_path)

    assert found.checkpoint.progress.step == 1
    assert len(found.skipped) == 1
    assert "step-00000002" in found.skipped[0]


def test_a_manifest_that_names_a_file_outside_is_not_believed(tmp_path):
    path = protocol.commit(tmp_path, state()).path / "MANIFEST.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../secret"] = manifest["files"]["state.json"]
    path.write_text(json.dumps(manifest))

    assert protocol.newest(tmp_path).checkpoint is None


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    protocol.commit(tmp_path, state())
    other = tiny.model(hidden_size=32)

    with pytest.raises(NoCheckpoint, match="another model"):
        protocol.restore(protocol.newest(tmp_path).checkpoint, other, adamw(other, SCHEDULE))


def test_a_weight_that_is_not_a_number_is_never_saved(tmp_path):
    contents = state()
    with torch.no_grad():
        contents.model.lm_head.weight[0, 0] = float("nan")

    with pytest.raises(NotFinite, match="lm_head"):
        protocol.commit(tmp_path, contents)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("name", ["write", "fsync", "rename"])
def test_whichever_call_to_the_disk_fails_the_checkpoint_before_is_whole_and_nothing_is_left(
    tmp_path, monkeypatch, name, number
):
    protocol.commit(tmp_path, state(1))
    with monkeypatch.context() as patch:
        calls = failing(patch, name, 0, number)
        protocol.commit(tmp_path / "count", state(2))
        total = len(calls)
    for at in range(1, total + 1):
        with monkeypatch.context() as patch, pytest.raises(SaveFailed) as caught:
            failing(patch, name, at, number)
            protocol.commit(tmp_path, state(2))
        found = protocol.newest(tmp_path)

        assert caught.value.exit_code is Exit.ENVIRONMENT
        assert found.checkpoint is not None
        assert found.skipped == ()
        assert not list(tmp_path.glob(".tmp-*"))
        shutil.rmtree(
            tmp_path / "step-00000002", ignore_errors=True
        )  # renamed, but not flushed: whole, not promised


def test_saving_in_place_would_leave_half_a_checkpoint_under_its_final_name(tmp_path, monkeypatch):
    """The twin of the test above: without the rename, a failure in the middle is a directory that looks saved."""
    monkeypatch.setattr(protocol, "move_directory", lambda *_: None)
    real = storage.write_file

    def in_place(path, blocks):
        final = tmp_path / "step-00000002"
        final.mkdir(exist_ok=True)
        return real(final / path.name, blocks)

    monkeypatch.setattr(protocol, "write_file", in_place)
    failing(monkeypatch, "write", 2, errno.ENOSPC)
    with pytest.raises(SaveFailed):
        protocol.commit(tmp_path, state(2))

    assert (tmp_path / "step-00000002").is_dir()
    assert protocol.newest(tmp_path).checkpoint is None


def test_old_checkpoints_go_and_the_newest_stay(tmp_path):
    for step in range(1, 5):
        protocol.commit(tmp_path, state(step))
    protocol.prune(tmp_path, keep=2)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path):
    protocol.commit(tmp_path, state())
    for name in (".tmp-9-123", ".del-step-00000001-7", "notes"):
        (tmp_path / name).mkdir()
    protocol.sweep(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "step-00000001"]


def test_the_newest_is_the_highest_step_whatever_the_clock_said(tmp_path):
    import os

    newest = protocol.commit(tmp_path, state(2)).path
    protocol.commit(tmp_path, state(1))
    os.utime(newest, (0, 0))

    assert protocol.newest(tmp_path).checkpoint.progress.step == 2


def test_large_states_are_saved_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(protocol, "SHARD_BYTES", 40_000)
    saved, fresh = state(1), state(0)
    path = protocol.commit(tmp_path, saved).path
    protocol.restore(protocol.verify(path), fresh.model, fresh.optimizer)

    assert len(list(path.glob("weights-*"))) > 2
    assert all(
        torch.equal(a, b) for a, b in zip(saved.model.parameters(), fresh.model.parameters(), strict=True)
    )


def test_a_file_is_replaced_all_at_once_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    storage.replace_file(path, b"old")
    failing(monkeypatch, "fsync", 1, errno.ENOSPC)
    with pytest.raises(OSError, match="planted"):
        storage.replace_file(path, b"new")

    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]
