"""One of two processes of `test_sharded`: trains each case with FSDP2 and writes down what it saw."""

import errno
import json
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch.distributed.fsdp import FSDPModule

from recipes.plan import Adaptation, Full, LastLayers, Lora, Plan
from recipes.read import read
from trainers import batches, data
from trainers.adapt.adapters import Base
from trainers.checkpoints import divided, protocol, storage
from trainers.checkpoints.protocol import Contents, Progress
from trainers.engine.accelerated import Accelerated
from trainers.errors import Followed, SaveFailed, exit_code
from trainers.evaluate import judge
from trainers.loop import train
from trainers.policy import is_beside_base, load, save
from trainers.run.equip import Equipped, equip

STEPS = 4
HALF = 2
CASES: dict[str, tuple[Adaptation, str]] = {
    "full": (Full(), "float32"),
    "full16": (Full(), "bfloat16"),  # with the bits that bfloat16 loses kept beside
    "last": (LastLayers(layers=1), "float32"),
    "lora": (Lora(rank=4, alpha=8.0), "bfloat16"),  # fp32 adapters in the group of a bf16 block
    "qlora": (Lora(base="nf4", rank=4, alpha=8.0), "bfloat16"),
}


def equipped(plan: Plan, home: Path, engine: Accelerated) -> Equipped:
    """The model of a plan, ready to learn."""
    policy = load(
        plan.model,
        home,
        engine.device,
        plan.adaptation,
        length_tokens=plan.data.length_tokens,
        divided=engine.divides_weights,
    )
    return equip(plan, home, policy, Base("base", ""), engine)


def learned(
    plan: Plan, home: Path, ready: Equipped, engine: Accelerated, checkpoints: Path, after: int = 0
) -> list[list[float]]:
    """Train to the last step; loss and norm of each. The state after step `HALF` is committed."""
    rows = tuple(data.read_rows(home / plan.data.train))
    found = data.examples(ready.policy.tokenizer, rows, plan.data).kept
    seen = []
    groups = batches.groups(
        found, plan.schedule, engine.device, processes=engine.processes, rank=engine.rank, after=after
    )
    with ready.policy.as_trained():
        for steps in train(
            ready.learner, groups, ready.optimizer, engine, learning_rate=lambda _: 1e-2, clip_norm=1.0
        ):
            for step in steps:
                seen.append([step.loss, step.grad_norm])
                if step.number == HALF:
                    commit(ready, engine, checkpoints, step.number)
    return seen


def commit(ready: Equipped, engine: Accelerated, checkpoints: Path, step: int) -> None:
    """As a run does it."""
    contents = Contents(ready.policy.model, ready.optimizer, Progress(step=step))
    if engine.rank != 0:
        protocol.give(contents)
    engine.alone(lambda: protocol.commit(checkpoints, contents))


def after_a_fault(ready: Equipped, engine: Accelerated) -> None:
    """A forward that breaks off inside a block, as a probe's may, leaves nothing gathered."""

    def broken(*_: object) -> None:
        raise NotImplementedError

    layer = ready.policy.causal.model.layers[0].self_attn
    hook = layer.register_forward_pre_hook(broken)
    ids = torch.zeros(1, 3, dtype=torch.long)
    with suppress(NotImplementedError):
        engine.together(ready.learner, lambda: ready.policy.model(input_ids=ids))
    hook.remove()


def fails(ready: Equipped, engine: Accelerated, home: Path) -> None:
    """Save to a disk that takes the first file only: each process writes down how it ended."""
    real, calls = storage.write, []

    def full(file: int, data: memoryview) -> int:
        calls.append(file)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "full")
        return real(file, data)

    storage.write = full
    protocol.SHARD_BYTES = 1_000
    try:
        commit(ready, engine, home / "disk", 1)
    except (Followed, SaveFailed) as error:
        (home / f"ended-{engine.rank}").write_text(
            f"{type(error).__name__} {exit_code(error)}", encoding="utf-8"
        )
    finally:
        storage.write = real


def resumed(plan: Plan, home: Path, engine: Accelerated, checkpoints: Path, again: Path) -> list[list[float]]:
    """Go on from the checkpoint of whoever wrote it."""
    ready = equipped(plan, home, engine)
    found = protocol.newest(checkpoints).checkpoint
    assert found is not None
    protocol.restore(found, ready.policy.model, ready.optimizer)
    return learned(plan, home, ready, engine, again, after=HALF)


def answers(plan: Plan, home: Path, ready: Equipped, engine: Accelerated) -> list[object]:
    """What the model says to the held-out rows, and how likely it finds the references."""
    return engine.together(ready.learner, lambda: said(plan, home, ready))


def said(plan: Plan, home: Path, ready: Equipped) -> list[object]:
    """The same, of whoever asks."""
    rows = tuple(data.read_rows(home / plan.data.held_out))
    (outcome,) = judge(ready.policy, rows, (), plan.evaluation, ("tuned",), lambda *_: None)
    return [[sample.got for sample in outcome.arm.samples], outcome.arm.nll.value]


def main(home: Path) -> None:
    """All cases, one after the other; the main process writes what was seen."""
    seen: dict[str, object] = {}
    for case in CASES:
        plan = read((home / f"{case}.toml").read_text(encoding="utf-8"), where=case)
        engine = Accelerated(plan.layout)
        ready = equipped(plan, home, engine)
        after_a_fault(ready, engine)
        blocks = [m for m in ready.learner.modules() if isinstance(m, FSDPModule)]
        weight = next(p for p in ready.learner.parameters() if p.requires_grad)
        part = weight.to_local().numel() / weight.numel()
        steps = learned(plan, home, ready, engine, home / case / "two")
        said = answers(plan, home, ready, engine)
        if case == "full16":
            fails(ready, engine, home)
        divided.settle(ready.policy.model, frozen=not is_beside_base(ready.policy), main=engine.rank == 0)
        engine.alone(lambda ready=ready, case=case: save(ready.policy, home / case / "output"))
        again = resumed(plan, home, engine, home / case / "one", home / case / "again")
        seen[case] = {
            "divided": len(blocks),
            "part": part,
            "steps": steps,
            "said": said,
            "resumed": again,
            "path": ready.policy.nll.__name__,
        }
    engine.alone(lambda: (home / "seen.json").write_text(json.dumps(seen), encoding="utf-8"))
    engine.leave()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
