"""Kill a training run 200 times, half of them inside a save, and resume it: weights and losses must be the same bits.

`python benchmarks/soak_resume.py [--trials 200] [--seed 0] [--out FILE]`. It imports once and forks for each attempt,
since importing costs seconds. Trials take turns between LoRA in float32 and all weights in bfloat16 with the bits that
rounding takes. A trial is killed once and, with one chance in four, again while it resumes:

* outside a save: by the parent, at a random moment of the time that a whole run takes;
* inside a save: by itself, at a random call to the disk (write, flush, rename), in the middle of a write.

A run that had finished before it was to be killed is tried again, so each trial has a kill.
"""

import argparse
import gc
import json
import os
import platform
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/trainers"))

import kill_trials
import tiny
import torch

from recipes.plan import Full, Lora, Plan
from trainers.checkpoints import protocol, storage
from trainers.run import story

STEPS = 8
DISK_CALLS = 90
"""About so many calls to the disk have the saves of a run: 8 of them, 4 files each, written and flushed, and a rename."""
AGAIN = 0.25


def plans(home: Path) -> dict[str, Plan]:
    """What is trained, by name."""
    often = {"save_every_steps": 1, "max_steps": STEPS, "epochs": 9.0, "evaluate_every_steps": 3}
    lora = tiny.plan(home, adaptation=Lora(rank=4, dropout=0.1), **often)
    full = tiny.plan(home, adaptation=Full(), **often)
    sixteen = full.model.model_copy(update={"dtype": "bfloat16"})
    return {"lora float32": lora, "full bfloat16": full.model_copy(update={"model": sixteen})}


def fatal(call: int) -> None:
    """Let this process kill itself at the `call`-th call to the disk inside a save; in the middle, if it is a write."""
    left = [call]
    saving = [False]
    commit, real = protocol.commit, {name: getattr(storage, name) for name in ("write", "fsync", "rename")}

    def counted(name: str) -> Callable[..., object]:
        def run(first: object, *more: object) -> object:
            left[0] -= saving[0]
            if saving[0] and left[0] == 0:
                if name == "write":
                    data = memoryview(more[0])  # type: ignore[arg-type]
                    real["write"](first, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real[name](first, *more)

        return run

    def watched(*words: object, **more: object) -> object:
        saving[0] = True
        try:
            return commit(*words, **more)
        finally:
            saving[0] = False

    for name in real:
        setattr(storage, name, counted(name))
    protocol.commit = watched


def told(run: Path) -> list[object]:
    """What a run came to: the loss of each step, and the bytes of its output and its last checkpoint."""
    losses = {}
    for line in (run / "events.jsonl").read_bytes().splitlines():
        event = json.loads(line)
        if event["type"] == "step":
            losses[event["step"]] = event["loss"]
    files = (
        *sorted((run / "output").glob("*.safetensors")),
        *sorted(run.glob(f"checkpoints/step-{STEPS:08d}/*.safetensors")),
    )
    return [losses, *(path.read_bytes() for path in files)]


def killed(recipe: Path, run: Path, chance: random.Random, seconds: float, *, saving: bool) -> bool:
    """One attempt that is to be killed; whether it was."""
    call, moment = chance.randint(1, DISK_CALLS), chance.uniform(0.02, 1) * seconds
    pid = kill_trials.attempt(recipe, run, before=(lambda: fatal(call)) if saving else None)
    if not saving:
        time.sleep(moment)
        os.kill(pid, signal.SIGKILL)
    return kill_trials.ended(pid) == -signal.SIGKILL


def trial(
    recipe: Path, run: Path, chance: random.Random, seconds: float, *, saving: bool
) -> dict[str, object]:
    """Kill, perhaps again, and resume to the end."""
    while not killed(recipe, run, chance, seconds, saving=saving):
        shutil.rmtree(run)  # it had come to its end before
    kills = 1
    if chance.random() < AGAIN:
        kills += killed(recipe, run, chance, seconds, saving=saving)
    code = kill_trials.ended(kill_trials.attempt(recipe, run))
    return {"kills": kills, "code": code, "resumed": kill_trials.went_on(run), "told": told(run)}


def main() -> None:
    """Run all trials and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/soak_resume.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    story.judge = kill_trials.judged  # judging is not what is tried here
    chance = random.Random(given.seed)
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        tiny.write_model(home / "base")
        recipes, wanted, seconds = {}, {}, {}
        gc.collect()
        gc.freeze()
        for name, plan in plans(home).items():
            recipes[name] = home / f"{name.split()[0]}.toml"
            recipes[name].write_text(tiny.write(plan, {}), encoding="utf-8")
            began = time.monotonic()
            assert kill_trials.ended(kill_trials.attempt(recipes[name], home / name)) == 0
            wanted[name], seconds[name] = told(home / name), time.monotonic() - began
        for number in range(given.trials):
            name, saving = list(recipes)[number % 2], number % 4 >= 2
            run = home / f"trial-{number}"
            one = trial(recipes[name], run, chance, seconds[name], saving=saving)
            one |= {"what": name, "saving": saving, "same": one.pop("told") == wanted[name]}
            found.append(one)
            shutil.rmtree(run)
            print(number + 1, one, flush=True)
    result = {
        "trials": len(found),
        "kills": sum(int(one["kills"]) for one in found),  # type: ignore[call-overload]
        "killed_inside_a_save": sum(bool(one["saving"]) for one in found),
        "resumed_behind_the_first_step": sum(bool(one["resumed"]) for one in found),
        "exit_0": sum(one["code"] == 0 for one in found),
        "bit_identical": sum(bool(one["same"]) for one in found),
        "by_kind": {
            f"{what}, {'inside a save' if saving else 'at any moment'}": statistics.mean(
                bool(one["same"]) for one in found if (one["what"], one["saving"]) == (what, saving)
            )
            for what in recipes
            for saving in (False, True)
            if any((one["what"], one["saving"]) == (what, saving) for one in found)
        },
        "seed": given.seed,
        "steps": STEPS,
        "machine": "2 cores, no GPU",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    sys.exit(result["bit_identical"] != len(found))


if __name__ == "__main__":
    main()
