"""The only loop. One process, DDP and whatever else the engine knows differ in `engine`, not here.

Letters of shapes: T tokens of a flat row, N positions that predict a trained token.
"""

import hashlib
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from recipes.words import N_
from trainers.engine import Engine
from trainers.errors import SHOWN, NotFinite


class Spans:
    """Where documents begin and end; a thing of its own, since a compiler would compile for each tuple anew."""

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        self._pairs = tuple(pairs)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(start, stop) of each."""
        return iter(self._pairs)


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch: whole documents in one flat row, with all that a forward needs and no mask.

    `ids_1T` int64, `positions_1T` int64 (restart at each document), `index_N` int64 (where a trained token is
    predicted), `target_N` int64 (that token). `spans` are the documents as (start, stop); the trained tokens of
    document i are `cuts[i]` to `cuts[i + 1]` of `target_N`. `attention` are the keyword arguments of packed
    attention. `places` name the rows, as `file:line`.
    """

    ids_1T: Tensor
    positions_1T: Tensor
    index_N: Tensor
    target_N: Tensor
    spans: tuple[tuple[int, int], ...]
    cuts: tuple[int, ...]
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
    """What one optimizer step saw; `loss` is the mean over the trained tokens of all processes.

    `seconds` is its share of the time since the last look.
    """

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
    look: Callable[[int], bool] = lambda _: True,
) -> Iterator[tuple[Step, ...]]:
    """Train, one optimizer step for each group, and tell the steps between two looks together.

    Between two looks nothing waits for the device: losses and norms stay there. The guard stands before each step
    all the same: a loss or a gradient norm that is not finite holds the optimizer, on the device, in that step and
    in all that follow, so weights and moments stay as they were until the next look ends the training.

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
        look: Whether to look after a step; the same answer in every process. The last step is always looked at.

    Yields:
        The steps since the last look; model and optimizer are as the last of them left them.

    Raises:
        NotFinite: With the step and its rows, once the steps before it are told.
    """
    weights = [p for p in learner.parameters() if p.requires_grad]
    learner.train()
    bad = torch.zeros((), device=engine.device)
    seen: list[_Seen] = []
    began = time.monotonic()
    for group in groups:
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
        numbers = torch.stack([engine.sum(total) / group.count, norm.to(total)])
        bad = torch.maximum(bad, (~torch.isfinite(numbers)).any().to(bad))
        seen.append(_Seen(replace(group, batches=()), rate, numbers))
        held = _hold(optimizer, bad)
        if not held:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if held or look(group.step):
            last_loss = yield from _told(seen, time.monotonic() - began, last_loss)
            seen, began = [], time.monotonic()
    if seen:
        yield from _told(seen, time.monotonic() - began, last_loss)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A step that is done, as far as the host knows: `numbers` are loss and gradient norm, on the device."""

    group: Group
    rate: float
    numbers: Tensor


def _hold(optimizer: torch.optim.Optimizer, bad: Tensor) -> bool:
    """Keep the next step from changing anything if `bad` is not 0; whether the host has to do it.

    Optimizers that torch's own gradient scaler trusts to read `found_inf` on the device are told there; of the
    others each step costs a wait for the device.
    """
    inner: Any = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    if not getattr(inner, "_step_supports_amp_scaling", False):
        return bool(bad)
    inner.grad_scale, inner.found_inf = None, bad
    return False


def _told(
    seen: Sequence[_Seen], seconds: float, last_loss: float | None
) -> Generator[tuple[Step, ...], None, float | None]:
    """Look at the device once, and tell the steps up to the first that is not finite; their last loss.

    Raises:
        NotFinite: There is such a step.
    """
    found: list[list[float]] = torch.stack([one.numbers for one in seen]).tolist()
    finite = list(takewhile(lambda numbers: all(map(math.isfinite, numbers)), found))
    steps = tuple(
        _step(one, loss, norm, seconds / len(seen)) for one, (loss, norm) in zip(seen, finite, strict=False)
    )
    if steps:
        yield steps
        last_loss = steps[-1].loss
    if len(steps) < len(seen):
        loss, norm = found[len(steps)]
        raise _not_finite(seen[len(steps)].group, loss, norm, last_loss)
    return last_loss


def _step(seen: _Seen, loss: float, grad_norm: float, seconds: float) -> Step:
    group = seen.group
    return Step(group.step, loss, grad_norm, seen.rate, group.tokens, group.count, seconds)


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
