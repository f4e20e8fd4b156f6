"""Train every way to move the weights on the embedded voice task, as a person would. `python benchmarks/strategies.py`.

Each line is a recipe with the defaults of its method, run by `python -m trainers run` as a process, as long as the
defaults say; methods with few weights as short as the others, too. It prints the share of weights that moves, steps, loss before and
after, style and facts on held-out rows (per cent), seconds of training, and the peak, measured beside predicted.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from advisor.catalog.gpus import detect
from advisor.catalog.models import local
from advisor.data.store import write as write_rows
from advisor.data.tokens import stats
from advisor.learn.lantern.base import base_dir
from advisor.learn.lantern.files import HELD_OUT, TRAIN, evaluation
from advisor.learn.lantern.tasks import task
from advisor.plan.compose import RowFiles, Wanted, propose
from advisor.plan.methods import FEW_WEIGHTS, FEW_WEIGHTS_PASSES, METHODS
from recipes.plan import Plan
from recipes.report import Report
from recipes.write import write

RESULT: Final = Path(__file__).parent / "results" / "strategies.json"
LEAVES: Final = ("sft_full", "sft_partial_freeze", "sft_lora", "sft_qlora")
ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class Line:
    """One training; scores in per cent."""

    method: str
    passes: float
    rate: float
    trained: int
    trained_share: float
    steps: int
    first_loss: float
    last_loss: float
    base_style: float
    style: float
    fact: float
    seconds: float
    peak_measured: int
    peak_predicted: int


def plan_of(method: str, directory: Path, passes: float) -> Plan:
    """The recipe that the defaults give, with `passes` times as many epochs."""
    voice, base = task("voice"), base_dir()
    sums = write_rows(directory / TRAIN, voice.train), write_rows(directory / HELD_OUT, voice.held_out)
    proposal = propose(
        Wanted(
            leaf=method,
            name=f"voice-{method.replace('_', '-')}",
            model_id=str(base),
            shape=local(base),
            data=RowFiles(TRAIN, sums[0], HELD_OUT, sums[1]),
            stats=stats(voice.train, base),
            evaluation=evaluation(voice, ROWS).model_copy(update={"prompt": None, "shots": 0}),
            hardware=detect(),
        )
    )
    schedule = proposal.plan.schedule
    longer = schedule.model_copy(
        update={
            "epochs": schedule.epochs * passes,
            "evaluate_every_steps": 10_000,
            "save_every_steps": 10_000,
        }
    )
    model = proposal.plan.model.model_copy(update={"dtype": "float32"})
    layout = proposal.plan.layout.model_copy(update={"device": "cpu", "threads": 1})
    return proposal.plan.model_copy(update={"schedule": longer, "model": model, "layout": layout})


def train(method: str, passes: float) -> Line:
    """Train one method and read its report."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        plan = plan_of(method, directory, passes)
        (directory / "recipe.toml").write_text(write(plan, {}), encoding="utf-8")
        words = ["-m", "trainers", "run", str(directory / "recipe.toml"), "--run", str(directory / "run")]
        done = subprocess.run(
            [sys.executable, *words],
            capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{method} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        report = Report.model_validate_json((directory / "run/report.json").read_text(encoding="utf-8"))
        events = [json.loads(line) for line in (directory / "run/events.jsonl").read_bytes().splitlines()]
    losses = [event["loss"] for event in events if event["type"] == "step"]
    arms = {arm.name: {name: 100 * rate.value for name, rate in arm.scores.items()} for arm in report.arms}
    trained = report.training
    if trained is None:
        raise SystemExit(f"{method}: nothing was trained")
    return Line(
        method=method,
        passes=passes,
        rate=plan.schedule.learning_rate,
        trained=trained.trainable_parameters,
        trained_share=round(100 * trained.trainable_parameters / trained.parameters, 2),
        steps=trained.steps,
        first_loss=round(losses[0], 3),
        last_loss=round(statistics.fmean(losses[-5:]), 3),
        base_style=arms["base"]["style"],
        style=arms["tuned"]["style"],
        fact=arms["tuned"]["fact"],
        seconds=round(trained.duration.measured_seconds, 1),
        peak_measured=trained.memory.measured_bytes,
        peak_predicted=trained.memory.predicted_bytes or 0,
    )


HEADING: Final = (
    f"{'method':<20}{'x':>5}{'rate':>9}{'trained':>9}{'%':>7}{'steps':>6}  {'loss':<15}"
    f"{'style':>6}{'fact':>6}{'s':>7}  peak MiB (predicted)"
)


def told(line: Line) -> str:
    """Write one line of the table."""
    losses = f"{line.first_loss:.2f} -> {line.last_loss:.2f}"
    peak = f"{line.peak_measured / 2**20:.0f} ({line.peak_predicted / 2**20:.0f})"
    return (
        f"{line.method:<20}{line.passes:>5.2g}{line.rate:>9.2g}{line.trained:>9}{line.trained_share:>7.2f}"
        f"{line.steps:>6}  {losses:<15}{line.style:>6.0f}{line.fact:>6.0f}{line.seconds:>7.1f}  {peak}"
    )


def lines(only: str) -> Iterator[Line]:
    """Every method whose name begins with `only`."""
    for method in (*LEAVES, *METHODS):
        for passes in (1 / FEW_WEIGHTS_PASSES, 1) if method in FEW_WEIGHTS else (1,):
            if method.startswith(only):
                yield train(method, passes)


def result(found: list[Line]) -> dict[str, object]:
    """The table for a file: the lines, and where they were measured."""
    packages = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, no GPU, one thread",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "lines": [asdict(line) for line in found],
    }


def main() -> None:
    """Print the table as it grows; write it when every method was trained."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="methods whose name begins with this")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    found: list[Line] = []
    print(HEADING)
    for line in lines(options.only):
        found.append(line)
        print(told(line), flush=True)
    if not options.only:
        options.out.write_text(json.dumps(result(found), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
