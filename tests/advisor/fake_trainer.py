"""A trainer without torch: `fake_trainer.py SCENARIO DIR` writes what a real one writes, and ends as told."""

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path

SCENARIO, RUN = sys.argv[1], Path(sys.argv[2])
numbers = itertools.count()


def say(kind, **fields):
    seq = next(numbers)
    line = {
        "v": 1,
        "seq": seq,
        "t": f"2026-11-20T12:00:{seq:02d}Z",
        "mono": float(seq),
        "type": kind,
        **fields,
    }
    with (RUN / "events.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def started():
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(stat[19])


def claim():
    (RUN / "control").mkdir(exist_ok=True)
    marker = {"kind": "run", "name": RUN.name, "pid": os.getpid(), "process_start": started()}
    marker["recipe_directory"] = str(Path.cwd())
    (RUN / "control" / "run.json").write_text(json.dumps(marker))


def train(steps, until=lambda step: None):
    say("start", steps=steps, method="lora", model="tiny\x1b[2J", pid=os.getpid(), resumed_from=None)
    say("phase", name="train")
    for step in range(1, steps + 1):
        say("step", step=step, loss=2.0 / step, lr=0.1, tps=1000.0, eta=float(steps - step))
        until(step)


if SCENARIO == "early":
    sys.stderr.write("error[P0100]: the recipe is \x1b]0;evil\x07 bad\n")
    sys.exit(2)
claim()
match SCENARIO:
    case "done":
        train(20)
        say("checkpoint", step=20, path="checkpoints/step-00000020", bytes=1)
        if len(sys.argv) > 3:
            (RUN / "report.json").write_text(Path(sys.argv[3]).read_text())
        say("done", exit=0, report="report.json")
    case "error":
        train(3)
        say(
            "error", exit=5, code="T0401", msg="loss became NaN at step 3\x1b[2J", msgid="loss became {what} at step {step}",
            values={"what": "NaN\x1b[2J", "step": 3}, remedy="lower the rate from {rate}", places=["a.jsonl:7"],
        )  # fmt: skip
        sys.exit(5)
    case "killed":
        train(2)
        say("checkpoint", step=2, path="x", bytes=1)
        os.kill(os.getpid(), signal.SIGKILL)
    case "waiting":  # says that it is paused, and waits
        say("start", steps=9, method="lora", model="tiny", pid=os.getpid(), resumed_from=None)
        say("paused", step=3, reason="pause")
        while not (RUN / "control" / "stop").exists():
            time.sleep(0.02)
        say("resumed", step=3, reason="pause")
        time.sleep(30)
    case "patient":  # trains until it is interrupted, then saves and says so
        stopping = []
        signal.signal(signal.SIGINT, lambda *_: stopping.append(1))

        def until(step):
            time.sleep(0.02)
            if stopping or (RUN / "control" / "stop").exists():
                say("checkpoint", step=step, path="x", bytes=1)
                say("stopped", exit=130, step=step, reason="SIGINT")
                sys.exit(130)

        train(2000, until)
    case "full":  # memory runs out as often as told, then it comes to its end
        if not (RUN / "recipe.toml").is_file():
            (RUN / "recipe.toml").write_bytes(Path("recipe.toml").read_bytes())
        told = (RUN / "events.jsonl").read_text() if (RUN / "events.jsonl").is_file() else ""
        train(4)
        if told.count('"oom"') < int(sys.argv[3]):
            say("checkpoint", step=4, path="x", bytes=1)
            facts = {"requested": 2**23, "alloc": 2**34, "reserved": 2**34, "free": 2**22, "predicted": 2**33}
            say("oom", step=4, phase=sys.argv[4], advice="lower something", **facts)
            values = {"reason": "CUDA out of memory"}
            say(
                "error",
                exit=4,
                code="T0402",
                msg="full",
                msgid="there is not enough memory: {reason}",
                values=values,
            )
            sys.exit(4)
        say("done", exit=0, report="report.json")
