"""One of two processes of `test_zero`: trains each case with DeepSpeed and writes down what it saw."""

import json
import sys
from pathlib import Path

import torch
import two_ranks

from recipes.plan import Plan
from recipes.read import read
from trainers.checkpoints import divided
from trainers.engine import Engine
from trainers.engine.begin import begin
from trainers.errors import NotFinite
from trainers.loop import Batch, Loss
from trainers.policy import is_beside_base, save
from trainers.run.equip import Equipped


def judged(plan: Plan, home: Path, ready: Equipped, engine: Engine) -> list[object] | None:
    """What it says, in the way of a run: all together where weights are divided, else the main process."""
    if engine.divides_weights:
        return two_ranks.answers(plan, home, ready, engine)
    return engine.alone(lambda: two_ranks.said(plan, home, ready))


def held(plan: Plan, home: Path, ready: Equipped, engine: Engine) -> list[object]:
    """One process has a loss that is no number: how both end, and whether anything moved."""
    objective = ready.learner.module.objective

    def poisoned(batch: Batch) -> Loss:
        loss = objective(batch)
        return Loss(loss.total * (float("nan") if engine.rank == 1 else 1.0), loss.count)

    ready.learner.module.objective = poisoned
    before = remembered(ready)
    try:
        two_ranks.learned(plan, home, ready, engine, home / "none", after=two_ranks.HALF)
    except NotFinite as error:
        return [error.values["step"], all(map(torch.equal, before, remembered(ready)))]
    return []


def remembered(ready: Equipped) -> list[torch.Tensor]:
    """Everything that a step changes."""
    return [
        value.detach().clone()
        for weight in divided.trained(ready.policy.model).values()
        for value in (weight, *ready.optimizer.remembered(weight).values())
    ]


def main(home: Path) -> None:
    """All cases, one after the other; the main process writes what was seen."""
    seen: dict[str, object] = {}
    for path in sorted(home.glob("*.toml")):
        case = path.stem
        plan = read(path.read_text(encoding="utf-8"), where=case)
        engine = begin(plan.layout)
        ready = two_ranks.equipped(plan, home, engine)
        if engine.divides_weights:
            two_ranks.after_a_fault(ready, engine)
        part = sum(part.numel() for part in ready.optimizer._masters)
        whole = sum(divided.shape(w).numel() for w in divided.trained(ready.policy.model).values())
        left = sum(weight.numel() for weight in ready.policy.causal.model.layers.parameters())
        steps = two_ranks.learned(plan, home, ready, engine, home / case / "two")
        said = judged(plan, home, ready, engine)
        ended = held(plan, home, ready, engine)
        divided.settle(ready.policy.model, frozen=not is_beside_base(ready.policy), main=engine.rank == 0)
        engine.alone(lambda ready=ready, case=case: save(ready.policy, home / case / "output"))
        of_one = two_ranks.resumed(plan, home, engine, home / case / "one", home / case / "none")
        of_two = two_ranks.resumed(plan, home, engine, home / case / "two", home / case / "none")
        seen[case] = {
            "engine": type(ready.learner).__name__,
            "stage": ready.learner.zero_optimization_stage(),
            "share": part / whole,
            "left": left,
            "path": ready.policy.nll.__name__,
            "steps": steps,
            "said": said,
            "of_one": of_one,
            "of_two": of_two,
            "held": ended,
        }
    engine.alone(lambda: (home / "seen.json").write_text(json.dumps(seen), encoding="utf-8"))
    engine.leave()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
