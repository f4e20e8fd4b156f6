"""A run that lives and gets nowhere is told with the facts, and one that is only slow is not."""

import os
import signal
import subprocess
import sys
from itertools import islice

from advisor.run import follow, stall
from advisor.run.directory import Run
from advisor.run.stall import Watch
from advisor.show.run import news
from advisor.text import use
from recipes.report import Event


def event(kind, **fields):
    return Event(v=1, seq=0, t="2026-11-20T12:00:00Z", mono=0.0, type=kind, **fields)


def watched(*told):
    """A watch that has seen (second, kind, fields)."""
    watch = Watch(0.0, 0.0)
    for second, kind, fields in told:
        watch = watch.after(event(kind, **fields), float(second))
    return watch


STEPS = [(n, "step", {"step": n}) for n in range(1, 11)]
BEATS = [(n, "heartbeat", {"step": 10, "phase": "train"}) for n in range(15, 400, 5)]


def test_a_process_that_beats_and_does_not_move_is_stalled():
    watch = watched((0, "phase", {"name": "train"}), *STEPS, *BEATS)
    found = watch.stall(400.0)

    assert (found.phase, found.step, found.silent, found.seconds) == ("train", 10, False, 390.0)
    assert watched(*STEPS, *BEATS[:10]).stall(62.0) is None  # not for so long yet


def test_a_process_that_says_nothing_is_stalled_sooner():
    found = watched(*STEPS).stall(10 + stall.SILENT_SECONDS)

    assert found.silent


def test_slow_steps_are_no_stall():
    slow = [(100 * n, "step", {"step": n}) for n in range(1, 6)]
    beats = [(n, "heartbeat", {}) for n in range(505, 1500, 5)]

    assert watched(*slow, *beats).stall(1400.0) is None
    assert watched(*slow, *beats, (2600, "heartbeat", {})).stall(2601.0) is not None


def test_a_pause_is_no_stall():
    beats = [(n, "heartbeat", {}) for n in range(15, 4000, 5)]

    assert watched(*STEPS, (11, "paused", {"step": 10}), *beats).stall(4000.0) is None


def test_loading_may_take_minutes():
    beats = [(n, "heartbeat", {}) for n in range(5, 800, 5)]

    assert watched((0, "phase", {"name": "load"}), *beats).stall(800.0) is None


def test_following_a_stopped_process_says_so_once_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(stall, "SILENT_SECONDS", 0.05)
    use("en")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        os.kill(process.pid, signal.SIGSTOP)
        run = Run(tmp_path, process.pid, process)
        line = '{"v":1,"seq":0,"t":"x","mono":0,"type":"step","step":7}\n'
        run.events.write_text(line)
        first, second = islice(follow.follow(run, poll_s=0.01), 2)
        run.events.write_text(line + line)
        third = next(follow.follow(Run(tmp_path, process.pid, process, len(line)), poll_s=0.01))
    finally:
        process.kill()
        process.wait()

    assert (first.type, second.type, third.type) == ("step", "stalled", "step")
    assert news(second).startswith("stalled: not a word for ")
    assert "step 7" in news(second)
    assert process.returncode == -signal.SIGKILL  # by this test: nobody else has ended it
