"""Kill a run of each strategy right after a save, resume it, and compare bit by bit; a program of its own.

It imports once and forks for each attempt: `python strategy_kills.py DIR`. Prints one JSON object: for each strategy
how the killed attempt ended, where the next one went on, and whether all bits are those of an unbroken run.
"""

import gc
import json
import os
import signal
import sys
from pathlib import Path

import kill_trials
import tiny
import torch
from kill_trials import attempt, ended

from recipes.plan import Bottleneck, Full, Ia3, LastLayers, Lora, Named, Prefix, PromptTuning, PTuning
from trainers.checkpoints import protocol
from trainers.run import story

STEPS, KILLED_AFTER = 4, 2
STRATEGIES = {
    "full": Full(),
    "last_layers": LastLayers(layers=1),
    "named": Named(patterns=("model.layers.*.mlp.*",)),
    "rslora_dropout": Lora(rank=4, rslora=True, dropout=0.1),
    "qlora": Lora(base="nf4", rank=4),
    "lora_8bit": Lora(base="int8", rank=4),
    "dora": Lora(rank=4, dora=True),
    "qdora": Lora(base="nf4", rank=4, dora=True),
    "beneath": Lora(rank=2, name="second", beneath=("../dora/whole/output",)),
    "bottleneck": Bottleneck(width=16, placement="houlsby"),
    "prefix": Prefix(virtual_tokens=4),
    "p_tuning": PTuning(virtual_tokens=4, encoder_width=16),
    "prompt_tuning": PromptTuning(virtual_tokens=4, start="ab abc"),
    "ia3": Ia3(),
}


def told(run):
    """The loss of each step, and every tensor that was saved."""
    events = [json.loads(line) for line in (run / "events.jsonl").read_bytes().splitlines()]
    losses = {event["step"]: event["loss"] for event in events if event["type"] == "step"}
    files = sorted(
        [*run.glob("output/**/*.safetensors"), *run.glob(f"checkpoints/step-{STEPS:08d}/*.safetensors")]
    )
    return losses, [(str(path.relative_to(run)), path.read_bytes()) for path in files]


def resumed_from(run):
    events = [json.loads(line) for line in (run / "events.jsonl").read_bytes().splitlines()]
    return [event["resumed_from"] for event in events if event["type"] == "start" and event["resumed_from"]]


def killing(mark):
    """Let the first attempt die as soon as its second checkpoint stands."""
    commit = protocol.commit

    def then_die(home, contents, *more):
        saved = commit(home, contents, *more)
        if contents.progress.step == KILLED_AFTER and "whole" not in str(home) and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return saved

    protocol.commit = then_die


def tried(home, plan, mark):
    home.mkdir()
    (home / "base").symlink_to(home.parent / "base", target_is_directory=True)
    made = tiny.plan(home, adaptation=plan, save_every_steps=1, max_steps=STEPS, epochs=9.0)
    recipe = tiny.write_recipe(home, made)
    whole = ended(attempt(recipe, home / "whole"))
    killed, again = (ended(attempt(recipe, home / "run")) for _ in range(2))
    mark.unlink(missing_ok=True)
    if whole or again:
        return {"codes": [whole, killed, again], "resumed_from": [], "same": False, "files": 0}
    same = told(home / "whole") == told(home / "run")
    return {
        "codes": [whole, killed, again],
        "resumed_from": resumed_from(home / "run"),
        "same": same,
        "files": len(told(home / "run")[1]),
    }


def main(home):
    torch.set_num_threads(1)
    story.judge = kill_trials.judged
    tiny.write_model(home / "base")
    mark = home / "killed"
    killing(mark)
    gc.collect()
    gc.freeze()
    found = {}
    for name, plan in STRATEGIES.items():
        found[name] = tried(home / name, plan, mark)
    print(json.dumps(found))  # noqa: T201  (a program of its own)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
