"""Kill training runs at random moments, resume them, and compare bit by bit; a program of its own.

It imports once and forks for each attempt, since importing costs seconds: `python kill_trials.py DIR TRIALS SEED
[--in-place]`. With `--in-place` the protection is off: checkpoints are written under their final name and believed
without a look, and each run is killed in the middle of a save. Prints one JSON object.
"""

import gc
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import tiny
import torch

from recipes.report import Arm, Rate
from trainers.checkpoints import divided, protocol
from trainers.evaluate import Outcome
from trainers.run import story, train

STEPS = 8
SAVES_OF_INTEREST = 3


def judged(*_, **__):
    """Judging is not what is tried here: the same scores for everybody, at once."""
    scores = {"exact": Rate(value=1.0, low=0.5, high=1.0, n=1)}
    return (
        Outcome(Arm(name="base", scores=scores, prompt_tokens=1.0, seconds=0.0), {"exact": (1.0,)}, ("1",)),
    )


def attempt(recipe, run, before=None):
    """Start one attempt in a process of its own, in which `before` was called; its id."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            if before:
                before()
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            code = train(recipe, run, resume=True, accept_changes=False)
        finally:
            os._exit(code)
    return pid


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def told(run):
    """What a run came to: the adapter's bytes, the last weights' bytes, and the loss of each step."""
    losses = {}
    for line in (run / "events.jsonl").read_bytes().splitlines():
        event = json.loads(line)
        if event["type"] == "step":
            losses[event["step"]] = event["loss"]
    files = (
        run / "output/adapter_model.safetensors",
        *sorted(run.glob(f"checkpoints/step-{STEPS:08d}/*.safetensors")),
    )
    return [losses, *(path.read_bytes().hex() for path in files)]


def went_on(run):
    """Whether some attempt began behind the first step."""
    events = (json.loads(line) for line in (run / "events.jsonl").read_bytes().splitlines())
    return any(event["type"] == "start" and event["resumed_from"] for event in events)


def in_place():
    """Take the protection away, and kill the process in the middle of its third save."""
    saves = []

    def commit(home, contents):
        path = home / f"step-{contents.progress.step:08d}"
        path.mkdir(parents=True, exist_ok=True)
        saves.append(path)
        for name, tensors in (
            ("weights-00001.safetensors", divided.weights(contents.model, contents.optimizer)),
            ("optimizer-00001.safetensors", divided.moments(contents.model, contents.optimizer)),
        ):
            whole = protocol.save({key: value.detach().contiguous() for key, value in tensors})
            with (path / name).open("wb") as file:
                file.write(whole[: len(whole) // 2])
                file.flush()
                if len(saves) == SAVES_OF_INTEREST and not (home / "killed").exists():
                    (home / "killed").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                file.write(whole[len(whole) // 2 :])
        (path / "state.json").write_bytes(protocol._json(protocol.asdict(contents.progress)))
        return believed(path)

    def believed(path):
        progress = protocol._progress(json.loads((path / "state.json").read_bytes()))
        return protocol.Checkpoint(path, progress, {}, 0, "")

    protocol.commit, protocol.verify = commit, believed


def main(home, trials, seed, *, unprotected):
    torch.set_num_threads(1)
    story.judge = judged
    tiny.write_model(home / "base")
    plan = tiny.plan(home, save_every_steps=1, max_steps=STEPS, epochs=9.0, evaluate_every_steps=3)
    recipe = tiny.write_recipe(home, plan)
    gc.collect()
    gc.freeze()
    began = time.monotonic()
    whole = ended(attempt(recipe, home / "whole"))
    seconds = time.monotonic() - began
    wanted = told(home / "whole")
    if unprotected:
        in_place()
    chance = random.Random(seed)
    codes, kills, resumed, same = [whole], 0, 0, 0
    for number in range(trials):
        run = home / f"trial-{number}"
        while True:
            pid = attempt(recipe, run)
            if not unprotected and kills <= number:  # as many kills as trials: some runs are killed again
                time.sleep(chance.uniform(0, 1) * seconds)
                os.kill(pid, signal.SIGKILL)
            code = ended(pid)
            kills += code == -signal.SIGKILL
            if code != -signal.SIGKILL:
                break
        codes.append(code)
        resumed += went_on(run)
        same += code == 0 and told(run) == wanted
        shutil.rmtree(run)
    found = {"steps": len(wanted[0]), "codes": codes, "kills": kills, "resumed": resumed, "same": same}
    print(json.dumps(found))  # noqa: T201  (a program of its own)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), unprotected="--in-place" in sys.argv)
