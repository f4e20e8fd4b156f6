"""Starting a trainer as a process of its own, and speaking to it through files."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from advisor.errors import BadValue, Busy, MissingPackage, NoRoom, UnknownName
from advisor.run import shelf, start
from advisor.run.directory import Run, alive, process_start
from advisor.run.follow import follow, outcome

FAKE = Path(__file__).with_name("fake_trainer.py")


@pytest.fixture
def fake(monkeypatch):
    """Put the trainer without torch in the place of the real one."""

    def use(scenario, *more):
        monkeypatch.setattr(
            start, "command", lambda recipe, run, **_: [sys.executable, str(FAKE), scenario, str(run), *more]
        )

    return use


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


def ended(run):
    run.process.wait(20)
    return run


def waited(condition):
    for _ in range(400):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen in 8 s")


def test_a_run_is_followed_to_its_end(fake, root):
    fake("done")

    run = start.start(Path("recipe.toml"), run=root / "a")
    found = [event.type for event in follow(run, poll_s=0.02)]

    assert found[0] == "start"
    assert found[-1] == "done"
    assert found.count("step") == 20
    assert (outcome(ended(run)).state, outcome(run).exit, outcome(run).saved_step) == ("done", 0, 20)


def test_a_trainer_that_fails_before_its_first_event_leaves_its_words_and_its_code(fake, root):
    fake("early")

    run = ended(start.start(Path("recipe.toml"), run=root / "a"))

    assert list(follow(run)) == []
    assert (outcome(run).state, outcome(run).exit) == ("died", 2)
    assert "P0100" in outcome(run).message


def test_the_last_words_of_one_attempt_are_not_those_of_the_next(fake, root):
    fake("early")
    ended(start.start(Path("recipe.toml"), run=root / "a"))
    fake("killed")

    run = ended(start.start(Path("recipe.toml"), run=root / "a", resume=True))

    assert "P0100" in (root / "a" / "stdout.log").read_text()
    assert (outcome(run).code, outcome(run).message) == ("R0401", "")


def test_a_killed_trainer_is_told_from_one_that_ended(fake, root):
    fake("killed")

    run = ended(start.start(Path("recipe.toml"), run=root / "a"))

    assert [event.type for event in follow(run)][-1] == "checkpoint"
    assert (outcome(run).state, outcome(run).exit, outcome(run).saved_step) == ("died", 4, 2)


def test_the_trainer_is_in_a_session_of_its_own_with_nothing_to_read(fake, root):
    fake("patient")
    run = start.start(Path("recipe.toml"), run=root / "a")

    try:
        assert os.getsid(run.pid) == run.pid != os.getsid(0)
        assert str(Path(f"/proc/{run.pid}/fd/0").readlink()) == os.devnull
        assert str(Path(f"/proc/{run.pid}/fd/1").readlink()) == str(Path(f"/proc/{run.pid}/fd/2").readlink())
        assert str(Path(f"/proc/{run.pid}/fd/2").readlink()).endswith("stdout.log")
    finally:
        run.process.kill()
        run.process.wait()


def test_a_running_run_hears_wishes_and_is_not_deleted_nor_started_twice(fake, root):
    fake("patient")
    run = start.start(Path("recipe.toml"), run=root / "a")
    try:
        waited(lambda: (root / "a" / "events.jsonl").exists() and shelf.entry(root / "a").step > 0)
        other = shelf.find(root, "a")

        assert alive(other)
        with pytest.raises(Busy):
            shelf.remove(other)
        with pytest.raises(Busy):
            start.start(Path("recipe.toml"), run=root / "a", resume=True)
        shelf.wish(other, "pause")
        shelf.resume(other)
        assert not (root / "a" / "control" / "pause").exists()
        shelf.wish(other, "stop")
        assert [event.type for event in follow(other, poll_s=0.02)][-1] == "stopped"
        assert run.process.wait(20) == 130
    finally:
        run.process.kill()
        run.process.wait()

    assert shelf.entry(root / "a").state == "stopped"


def test_a_wish_to_nobody_is_refused(fake, root):
    fake("done")
    run = ended(start.start(Path("recipe.toml"), run=root / "a"))

    with pytest.raises(BadValue):
        shelf.wish(run, "stop")


def test_an_old_wish_does_not_stop_the_next_attempt(fake, root):
    fake("done")
    ended(start.start(Path("recipe.toml"), run=root / "a"))
    (root / "a" / "control" / "stop").touch()

    ended(start.start(Path("recipe.toml"), run=root / "a", resume=True))

    assert not (root / "a" / "control" / "stop").exists()


def test_following_a_resumed_run_begins_where_it_was_resumed(fake, root):
    fake("killed")
    ended(start.start(Path("recipe.toml"), run=root / "a"))
    with (root / "a" / "events.jsonl").open("a") as file:
        file.write('{"torn": ')
    fake("done")

    run = start.start(Path("recipe.toml"), run=root / "a", resume=True)

    assert run.offset > 0
    ended(run)


def test_a_directory_with_another_run_or_other_files_is_left_alone(fake, root, tmp_path):
    fake("done")
    ended(start.start(Path("recipe.toml"), run=root / "a"))
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "love.txt").write_text("x")

    with pytest.raises(NoRoom, match="another run"):
        start.start(Path("recipe.toml"), run=root / "a")
    with pytest.raises(NoRoom, match=r"love\.txt"):
        start.start(Path("recipe.toml"), run=tmp_path / "letters")
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["love.txt"]


def test_a_directory_that_cannot_be_made_is_said(fake, tmp_path):
    fake("done")
    (tmp_path / "file").write_text("")

    with pytest.raises(NoRoom):
        start.start(Path("recipe.toml"), run=tmp_path / "file" / "run")


def test_a_missing_extra_is_found_before_anything_is_made(monkeypatch, root):
    monkeypatch.setattr(start, "find_spec", lambda name: None if name == "peft" else object())

    with pytest.raises(MissingPackage, match="peft") as missing:
        start.start(Path("recipe.toml"), run=root / "a")

    assert "pip install 'finetune-advisor[train]'" in missing.value.remedy
    assert missing.value.exit_code == 4
    assert not root.exists()


def test_the_environment_is_built_from_a_list():
    ours = {
        "PATH": "/bin",
        "HF_HOME": "/x",
        "OMP_NUM_THREADS": "1",
        "HF_TOKEN": "hf_s",
        "AWS_SECRET_ACCESS_KEY": "s",
    }

    assert set(start.environment(ours)) == {"PATH", "HF_HOME", "OMP_NUM_THREADS"}


def test_the_command_names_what_was_asked():
    words = start.command(Path("r.toml"), Path("runs/a"), resume=True, accept_changes=True)

    assert words[1:] == [
        "-P",
        "-m",
        "trainers",
        "run",
        "r.toml",
        "--run",
        "runs/a",
        "--resume",
        "--accept-changes",
    ]
    assert start.command(Path("p.json"), Path("b"), measure=True)[4:] == ["measure", "p.json", "--run", "b"]


def test_a_process_id_that_was_used_again_is_not_the_run(tmp_path):
    (tmp_path / "control").mkdir()
    marker = {"pid": os.getpid(), "process_start": process_start(os.getpid()) - 1}
    (tmp_path / "control" / "run.json").write_text(json.dumps(marker))

    assert not alive(Run(tmp_path))


def test_a_process_of_an_earlier_boot_is_not_the_run(tmp_path):
    (tmp_path / "control").mkdir()
    marker = {"pid": os.getpid(), "process_start": process_start(os.getpid()), "boot_id": "another"}
    (tmp_path / "control" / "run.json").write_text(json.dumps(marker))

    assert not alive(Run(tmp_path))


def made(root, *names):
    for name in names:
        (root / name / "control").mkdir(parents=True)
        (root / name / "control" / "run.json").write_text("{}")


def test_a_run_is_found_by_a_part_of_its_name(root):
    made(root, "voice-lora", "voice-full", "ticket")

    assert shelf.find(root, "tick").path.name == "ticket"
    assert shelf.find(root, "lora").path.name == "voice-lora"
    assert shelf.find(Path("nowhere"), str(root / "ticket")).path == root / "ticket"
    with pytest.raises(BadValue, match="voice-full, voice-lora"):
        shelf.find(root, "voice")
    with pytest.raises(UnknownName, match="tiket"):
        shelf.find(root, "tiket")


def test_only_a_directory_with_our_marker_is_deleted(root, tmp_path):
    made(root, "mine")
    (root / "theirs").mkdir()
    (root / "link").symlink_to(root / "mine")
    (tmp_path / "precious").mkdir()
    (root / "mine" / "out").symlink_to(tmp_path / "precious")

    for name in ("theirs", "link"):
        with pytest.raises(NoRoom, match="not a run directory of ours"):
            shelf.remove(Run(root / name))
    shelf.remove(Run(root / "mine"))

    assert (root / "theirs").is_dir()
    assert not (root / "mine").exists()
    assert (tmp_path / "precious").is_dir()


def test_a_folder_without_runs_is_an_empty_list(tmp_path):
    assert shelf.entries(tmp_path / "nowhere") == ()


def test_a_marker_that_is_nonsense_breaks_no_list(root):
    made(root, "odd")
    (root / "odd" / "control" / "run.json").write_text('{"pid": -1, "process_start": "x"}')
    (root / "odd" / "events.jsonl").write_text("nonsense\n")

    assert [(e.name, e.state) for e in shelf.entries(root)] == [("odd", "died")]


def test_a_paused_run_is_listed_as_paused(fake, root):
    fake("waiting")
    run = start.start(Path("r.toml"), run=root / "voice")
    try:
        waited(lambda: run.events.is_file() and '"paused"' in run.events.read_text())
        paused = shelf.entry(run.path).state
        (run.path / "control/stop").touch()
        waited(lambda: '"resumed"' in run.events.read_text())
        going = shelf.entry(run.path).state
    finally:
        run.process.kill()
        run.process.wait()

    assert (paused, going) == ("paused", "running")
    assert shelf.entry(run.path).state == "died"
