"""kill -9 at any moment costs steps, never a bit: the promise, and what happens without its protection."""

import json
import subprocess
import sys
from pathlib import Path

TRIALS = 20


def trials(home, count, *flags):
    script = Path(__file__).with_name("kill_trials.py")
    done = subprocess.run(
        [sys.executable, str(script), str(home), str(count), "0", *flags],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=script.parent,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_weights_and_losses_bit_for_bit(tmp_path):
    found = trials(tmp_path, TRIALS)

    assert found["codes"] == [0] * (TRIALS + 1)
    assert (found["steps"], found["same"]) == (8, TRIALS)
    assert found["kills"] >= TRIALS // 2
    assert found["resumed"] >= 3


def test_without_the_commit_protocol_a_kill_during_a_save_ends_the_run(tmp_path):
    found = trials(tmp_path, 2, "--in-place")

    assert (found["kills"], found["same"]) == (2, 0)
