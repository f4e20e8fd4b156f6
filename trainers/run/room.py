"""Whether the disk has room for what a run will write, asked before it trains."""

import shutil
from pathlib import Path
from typing import Final

import torch

from recipes.plan import Full, LastLayers, Named, Plan
from recipes.words import N_
from trainers.errors import SaveFailed
from trainers.optim import saved_bytes
from trainers.policy import Policy

SPARE: Final = 1.05
"""Names, manifests, the log, and whatever else the disk is asked for meanwhile."""


def check_room(
    plan: Plan, root: Path, policy: Policy, optimizer: torch.optim.Optimizer, *, there: int
) -> None:
    """See that all checkpoints which are kept, one more while it is written, and the result will fit.

    Args:
        plan: Says how many are kept, and what is saved at the end.
        root: The run directory.
        policy: What is trained.
        optimizer: How; its state is most of a checkpoint.
        there: How many checkpoints are on the disk already.

    Raises:
        SaveFailed: They will not.
    """
    each, output = saved_bytes(optimizer), _output(plan, policy, optimizer)
    count = max(1, plan.schedule.keep_checkpoints + 1 - there)
    needed, free = int(SPARE * (count * each + output)), shutil.disk_usage(root).free
    if free >= needed:
        return
    raise SaveFailed(
        N_(
            "the disk has {free} MiB free, and the run will need {needed}: {count} checkpoint(s) of {each} MiB, "
            "and {output} MiB for what was trained"
        ),
        remedy=N_("make room, lower schedule.keep_checkpoints, or choose another directory with --run DIR"),
        where=str(root),
        free=free // 2**20,
        needed=-(-needed // 2**20),
        count=count,
        each=-(-each // 2**20),
        output=-(-output // 2**20),
    )


def _output(plan: Plan, policy: Policy, optimizer: torch.optim.Optimizer) -> int:
    """Bytes of the model, where it moved itself, or of what was added to it."""
    if isinstance(plan.adaptation, Full | LastLayers | Named):
        return sum(weight.nbytes for weight in policy.model.parameters())
    return sum(weight.nbytes for group in optimizer.param_groups for weight in group["params"])
