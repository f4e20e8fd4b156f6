"""How weights move: AdamW in the form that a schedule asks for, and the learning rate as a function of the step."""

from typing import Any

import torch
from torch import Tensor, nn

from recipes.plan import Schedule
from trainers.optim.exact import ExactAdamW
from trainers.optim.rate import learning_rate

__all__ = ["adamw", "begin_anew", "learning_rate", "saved_bytes"]


def adamw(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, 2017), fused: it adds no copy of the trained weights.

    Vectors (norms, biases) are not decayed: pulling a scale towards zero regularises nothing. Weights in float32
    need no help; where some have 16 bits, or moments are to have 8, `trainers.optim.exact` does the same update
    piece by piece.

    Raises:
        MissingPackage: 8-bit moments are wanted, and bitsandbytes is not installed.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    settings: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [one for one in settings if one["params"]]
    rate, eight = schedule.learning_rate, schedule.optimizer != "adamw"
    if eight or (schedule.exact_weights and any(_is_rounded(p) for p in trained)):
        return ExactAdamW(
            groups,
            lr=rate,
            exact=schedule.exact_weights,
            eight_bit=eight,
            paged=schedule.optimizer == "paged_adamw_8bit",
        )
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def begin_anew(optimizer: torch.optim.Optimizer) -> int:
    """Forget restored moments that are of another form of AdamW than this one; how many weights that concerns.

    The bits that their weights lost stay, where they are wanted.
    """
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    forgotten = 0
    for weight, state in inner.state.items():
        wanted = _form(inner, weight)
        if state and {kind: value.dtype for kind, value in state.items()} != wanted:
            low = state.get("low")
            state.clear()
            if isinstance(inner, ExactAdamW):
                state.update(inner.begin(weight))
                state.update({"low": low} if low is not None and "low" in wanted else {})
            forgotten += 1
    return forgotten


def saved_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of a checkpoint: the weights that move, and what the optimizer will keep of them."""
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    weights = [weight for group in inner.param_groups for weight in group["params"]]
    return sum(weight.nbytes + _state_bytes(inner, weight) for weight in weights)


def _state_bytes(optimizer: torch.optim.Optimizer, weight: Tensor) -> int:
    if isinstance(optimizer, ExactAdamW):
        return sum(
            value.nbytes for value in optimizer.begin(torch.empty_like(weight, device="meta")).values()
        )
    return 2 * weight.nbytes


def _form(optimizer: torch.optim.Optimizer, weight: Tensor) -> dict[str, torch.dtype]:
    """What the state of a weight consists of."""
    if isinstance(optimizer, ExactAdamW):
        nothing = torch.empty_like(weight, device="meta")
        return {kind: value.dtype for kind, value in optimizer.begin(nothing).items()}
    return {"step": torch.float32, "exp_avg": weight.dtype, "exp_avg_sq": weight.dtype}


def _is_rounded(weight: Tensor) -> bool:
    return weight.dtype == torch.bfloat16
