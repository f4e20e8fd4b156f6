"""kill -9 costs no strategy a bit: what moves is what is saved, whatever moves."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from strategy_kills import KILLED_AFTER, STRATEGIES


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    script = Path(__file__).with_name("strategy_kills.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path_factory.mktemp("kills"))],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=script.parent,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_killed_run_goes_on_to_the_same_bits(found, name):
    one = found[name]

    assert one["codes"] == [0, -signal.SIGKILL, 0]
    assert one["resumed_from"] == [KILLED_AFTER]
    assert one["files"] >= 2
    assert one["same"]
