"""The only loop. One process, DDP and whatever else the engine knows differ in `engine`, not here.

Letters of shapes: T tokens of a flat row, N positions that predict a trained token.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from recipes.words import N_
from trainers.engine import Engine
from trainers.errors import SHOWN, NotFinite


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch: whole documents in one flat row, with all that a forward needs and no mask.

    `ids_1T` int64, `positions_1T` int64 (restart at each document), `index_N` int64 (where a trained token is
    predicted), `target_N` int64 (that token). `spans` are the documents as (start, stop). `attention` are the
    keyword arguments of packed attention. `places` name the rows, as `file:line`.
    """

    ids_1T: Tensor
    positions_1T: Tensor
    index_N: Tensor
    target_N: Tensor
    spans: tuple[tuple[int, int], ...]
    attention: Mapping[str, object]
    places: tuple[str, ...]

    @property
    def tokens(self) -> int:
        """How many tokens pass through the model."""
        return self.ids_1T.shape[1]

    @property
    def count(self) -> int:
        """How many tokens are trained."""
        return len(self.target_N)


@dataclass(frozen=True, slots=True)
class Group:
    """One step's worth: the micro-batches of this process, and what all processes count together.

    `count` (trained tokens) is known before the first backward, because engines average over processes and may
    clip and step inside the last one; nothing can be divided afterwards. Every process brings as many
    micro-batches as the others. `places` are the rows of all processes.
    """

    step: int
    batches: Sequence[Batch]
    count: int
    tokens: int
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loss:
    """A sum in nats and what it was summed over, so that uneven micro-batches weigh what they should."""

    total: Tensor
    count: int


@dataclass(frozen=True, slots=True)
class Step:
    """What one optimizer step saw; `loss` is the mean over the trained tokens of all processes."""

    number: int
    loss: float
    grad_norm: float
    learning_rate: float
    tokens: int
    trained_tokens: int
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)


Objective = Callable[[Batch], Loss]


class Learner(nn.Module):
    """What the engine wraps: the model with its objective in one forward, so that engines see one call.

    DDP and FSDP hook into `forward`; whoever reaches past it trains without them.
    """

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> Tensor:
        """The summed loss of one micro-batch, in nats."""
        return self.objective(batch).total


def train(
    learner: nn.Module,
    groups: Iterable[Group],
    optimizer: torch.optim.Optimizer,
    engine: Engine,
    *,
    learning_rate: Callable[[int], float],
    clip_norm: float,
    seed: int = 0,
    last_loss: float | None = None,
) -> Iterator[Step]:
    """Train, one optimizer step for each group, and tell each step when it is done.

    The guard stands before the step: a loss or a gradient norm that is not finite ends the training with all
    weights and moments as they were. It costs one wait for the device a step, the one that telling the loss
    costs anyway.

    Args:
        learner: As `engine.prepare` gave it back.
        groups: The steps; a resumed run passes those that are left.
        optimizer: As `engine.prepare` gave it back.
        engine: The hardware.
        learning_rate: The rate of a step, from 1.
        clip_norm: The largest norm of all gradients together.
        seed: What is drawn in a step (dropout) follows from it, the step and the process, and from nothing
            before: a resumed step draws what the first one drew.
        last_loss: The loss before the first group, for the message of the guard.

    Raises:
        NotFinite: With the step and its rows.
    """
    weights = [p for p in learner.parameters() if p.requires_grad]
    learner.train()
    for group in groups:
        began = time.monotonic()
        torch.manual_seed(_drawn(seed, group.step, engine.rank))
        rate = learning_rate(group.step)
        for settings in optimizer.param_groups:
            settings["lr"] = rate
        total = torch.zeros((), device=engine.device)
        for batch in engine.accumulate(learner, group.batches):
            loss = learner(batch)
            engine.backward(loss * (engine.processes / group.count))  # the engine averages: undo it
            total += loss.detach()
        norm = engine.clip(weights, clip_norm)
        mean, grad_norm = torch.stack([engine.sum(total) / group.count, norm.to(total)]).tolist()
        if not (math.isfinite(mean) and math.isfinite(grad_norm)):
            optimizer.zero_grad(set_to_none=True)
            raise _not_finite(group, mean, grad_norm, last_loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        last_loss = mean
        seconds = time.monotonic() - began
        yield Step(group.step, mean, grad_norm, rate, group.tokens, group.count, seconds)


def _drawn(seed: int, step: int, rank: int) -> int:
    """A seed of 63 bits for one step of one process."""
    text = hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()
    return int.from_bytes(text[:8], "big") >> 1


def _not_finite(group: Group, loss: float, grad_norm: float, last: float | None) -> NotFinite:
    more = len(group.places) - SHOWN
    rows = ", ".join(group.places[:SHOWN]) + (f", +{more}" if more > 0 else "")
    return NotFinite(
        N_(
            "at step {step} the loss is {loss} and the gradient norm {grad_norm}; the last finite loss was {last}. "
            "The weights were not changed by this step. Its rows: {rows}"
        ),
        remedy=N_("lower schedule.learning_rate, or look at these rows"),
        step=group.step,
        loss=f"{loss:.4g}",
        grad_norm=f"{grad_norm:.4g}",
        last="-" if last is None else f"{last:.4f}",
        rows=rows,
    )
