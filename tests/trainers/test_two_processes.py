"""Two processes behind torchrun learn what one process learns."""

import json
import subprocess
import sys

import pytest
import tiny

from recipes.exits import Exit
from recipes.plan import Layout
from recipes.report import Report
from trainers import run as running


def run(home, name, processes, **changes):
    """Run a recipe in `processes` processes (gloo) and give its losses and its report."""
    layout = Layout(processes=processes, device="cpu", threads=1)
    recipe = tiny.plan(home, max_steps=4, **changes).model_copy(update={"layout": layout})
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", "-m", "trainers"]
    words = launcher if processes > 1 else ["-m", "trainers"]
    done = subprocess.run(
        [sys.executable, *words, "run", str(tiny.write_recipe(home, recipe)), "--run-dir", str(home / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == Exit.OK, done.stderr[-2000:]
    lines = map(json.loads, (home / name / "events.jsonl").read_text().splitlines())
    losses = [line["loss"] for line in lines if line["type"] == "step"]
    return losses, Report.model_validate_json((home / name / "report.json").read_bytes())


def test_the_other_processes_write_nothing_and_wait_for_no_directory(home, monkeypatch):
    class Story:
        @staticmethod
        def run(_):
            return Exit.OK

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(running, "import_module", lambda _: Story)
    code = running.train(
        tiny.write_recipe(home, tiny.plan(home)), home / "run", resume=False, accept_changes=False
    )

    assert code == Exit.OK
    assert not (home / "run").exists()


def test_two_processes_learn_what_one_does_with_twice_the_micro_batches(home):
    one, _ = run(home, "one", 1, accumulation=2)
    two, report = run(home, "two", 2)

    assert len(one) == 4
    assert two == pytest.approx(one, rel=1e-5)
    assert report.training.steps == 4
