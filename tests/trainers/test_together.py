"""Several processes on one computer: they share a batch, end together, and the one that was lost is named."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny

from recipes.exits import Exit
from recipes.plan import Layout
from recipes.read import read
from recipes.write import write
from trainers.engine.layout import check
from trainers.errors import WrongLaunch
from trainers.run import together
from trainers.run.fingerprints import same_steps

STEPS = 60
PATIENCE_SECONDS = 180


def started(home, *words):
    recipe = tiny.write_recipe(home, tiny.plan(home, epochs=100.0, max_steps=STEPS, accumulation=2))
    argv = [sys.executable, "-m", "trainers", "run", str(recipe), "--run-dir", str(home / "run"), *words]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def events(home):
    try:
        text = (home / "run" / "events.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def seen(home, kind):
    """Wait for an event."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if any(event["type"] == kind for event in events(home)):
            return
        time.sleep(0.02)
    raise AssertionError(f"no event {kind}")


def children(pid):
    """The processes of a launcher, by their rank."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return {
        int(line.partition(b"=")[2]): int(child)
        for child in found
        for line in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if line.startswith(b"RANK=")
    }


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_lost_process_ends_all_by_name_and_one_process_goes_on(home):
    launcher = started(home, "--nproc", "2")
    try:
        seen(home, "checkpoint")
        (home / "run" / "control" / "pause").touch()
        seen(home, "paused")
        os.kill(children(launcher.pid)[1], signal.SIGKILL)
        said = launcher.communicate(timeout=PATIENCE_SECONDS)[1].decode()
    finally:
        launcher.kill()
    last = events(home)[-1]
    kept = read((home / "run" / "recipe.toml").read_text(encoding="utf-8"), where="kept")

    assert (launcher.returncode, last["type"], last["code"]) == (Exit.ENVIRONMENT, "error", "R0402")
    assert (last["values"]["rank"], last["values"]["how"]) == (2, "SIGKILL")
    assert "process 2 of 2 ended first (SIGKILL)" in said
    assert (kept.layout.processes, kept.schedule.accumulation) == (2, 1)

    (home / "run" / "control" / "pause").unlink()
    again = started(home, "--resume", "--nproc", "1")
    said = again.communicate(timeout=PATIENCE_SECONDS)[1].decode()
    after = events(home)[events(home).index(last) + 1 :]
    steps = [event["step"] for event in after if event["type"] == "step"]

    assert again.returncode == Exit.OK, said
    assert "R0203" in [event.get("code") for event in after]
    assert steps == list(range(steps[0], STEPS + 1))
    assert steps[0] > 1


def test_ctrl_c_stops_all_after_their_step(home):
    launcher = started(home, "--nproc", "2")
    try:
        seen(home, "step")
        launcher.send_signal(signal.SIGINT)
        launcher.communicate(timeout=PATIENCE_SECONDS)
    finally:
        launcher.kill()

    assert (launcher.returncode, events(home)[-1]["type"]) == (Exit.INTERRUPTED, "stopped")


@pytest.mark.skipif(
    sys.platform != "linux", reason="the kernel of Linux tells a process of its parent's death"
)
def test_a_killed_launcher_leaves_nobody():
    child = "import time; from trainers.run.together import dies_with_launcher as d; d(); print(1, flush=True); time.sleep(300)"
    parent = (
        "import os, subprocess, sys, time; os.environ['TRAINERS_LAUNCHER'] = str(os.getpid());"
        f"c = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE);"
        "c.stdout.readline(); print(c.pid, flush=True); time.sleep(300)"
    )
    launcher = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    pid = int(launcher.stdout.readline())
    launcher.kill()
    launcher.communicate()
    end = time.monotonic() + PATIENCE_SECONDS
    while (alive := lives(pid)) and time.monotonic() < end:
        time.sleep(0.02)

    assert not alive


def lives(pid):
    """Whether a process runs; one that nobody has buried yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("accumulation", "processes", "each"), [(4, 2, 2), (4, 4, 1), (3, 2, 3), (1, 2, 1)])
def test_processes_share_a_batch_that_can_be_shared(home, accumulation, processes, each):
    plan = tiny.plan(home, accumulation=accumulation)
    found = read(together.shared(write(plan, {}), plan, processes), where="shared")

    assert (found.layout.processes, found.schedule.accumulation) == (processes, each)
    assert "# --nproc" in together.shared(write(plan, {}), plan, processes)


def test_a_recipe_without_a_layout_gets_one(home):
    plan = tiny.plan(home)
    text = write(plan, {})
    bare = text[: text.index("[layout]")]

    assert read(together.shared(bare, plan, 3), where="bare").layout.processes == 3


def test_several_computers_are_not_started_from_here(home, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    plan = tiny.plan(home)
    layout = plan.layout.model_copy(update={"processes": 4, "nodes": 2})

    with pytest.raises(WrongLaunch, match="2 computers"):
        together.wants_company(plan.model_copy(update={"layout": layout}))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"processes": "2", "schedule.accumulation": "2", "threads": "1"}, True),
        ({"processes": "2", "schedule.accumulation": "4"}, False),  # twice the rows a step
        ({"processes": "2", "schedule.accumulation": "2", "schedule.seed": "1"}, False),
        ({"layout.sharding": "fsdp2"}, True),
        ({"threads": "1"}, False),
    ],
)
def test_a_resume_may_share_the_same_steps_otherwise_and_nothing_else(change, same):
    before = {
        "processes": "1",
        "schedule.accumulation": "4",
        "threads": "2",
        "schedule.seed": "0",
        "layout.sharding": "none",
    }

    assert same_steps(before, {**before, **change}) is same


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)

    with pytest.raises(WrongLaunch, match="1 GPU"):
        check(Layout(processes=2))
