"""Two optimizer steps of the real trainer on tensors without memory: load, adapt, loop. What was alive is the result."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from recipes.plan import Layout, Plan
from recipes.rows import Row, Source, Turn
from trainers import batches
from trainers.adapt.adapters import Base
from trainers.data import Example
from trainers.dryrun.device import as_on_cuda
from trainers.dryrun.model import Config, built, fill
from trainers.dryrun.place import AFTER, BEFORE, Phase, Place
from trainers.engine.accelerated import Accelerated
from trainers.loop import Group, train
from trainers.memory.live import Recorder
from trainers.memory.trace import Trace
from trainers.optim import learning_rate
from trainers.policy import DTYPES, Policy
from trainers.policy.forward import Path as Way
from trainers.policy.source import Source as Origin
from trainers.run.equip import ObjectiveOf, equip

STEPS: Final = 2
"""The optimizer's state is made in the first one; the peak is that of the second."""
MICRO_BATCHES: Final = 2
"""With more of them nothing new is alive: gradients are there from the second one on."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What happened; `parameters` and `trained` are counts of weights, of a 4-bit base as they are packed."""

    trace: Trace
    trained: int
    notes: tuple[str, ...]


def rehearse(plan: Plan, config: Config, way: Way, label_share: float, objective: ObjectiveOf) -> Rehearsed:
    """Train `STEPS` steps of a recipe without weights.

    Args:
        plan: As the trainer gets it.
        config: The model's `config.json`.
        way: How rows go through the model.
        label_share: Which share of each document is trained.
        objective: What is learned.
    """
    recorder = Recorder()
    device = torch.device("cpu")
    short = plan.schedule.model_copy(
        update={
            "accumulation": min(plan.schedule.accumulation, MICRO_BATCHES),
            "max_steps": STEPS,
            "epochs": float(STEPS),
        }
    )
    plan = plan.model_copy(update={"schedule": short})
    groups = list(batches.groups(examples(plan, label_share, STEPS), short, device))
    model = built(config, plan)
    with recorder, as_on_cuda(recorder):
        recorder.enter(Place("load"))
        fill(model, DTYPES[plan.model.dtype])
        recorder.enter(Place("equip"))
        tokenizer = cast(PreTrainedTokenizerBase, None)  # rows are tokens already
        policy = Policy(model, tokenizer, device, way.nll, Origin(Path(), None), way.why)
        engine = _Watched(recorder)
        equipped = equip(plan, Path(), policy, Base(plan.model.id, ""), engine, objective)
        _watch(equipped.policy.causal, engine.at)
        with equipped.policy.as_trained():
            steps = train(
                equipped.learner,
                map(_fake, groups),
                equipped.optimizer,
                engine,
                learning_rate=learning_rate(short, STEPS),
                clip_norm=short.clip_norm,
                seed=short.seed,
            )
            for _ in steps:
                pass
        notes = (*equipped.adapted.notes, *([way.why] if way.why else ()))
        trained = equipped.adapted.trainable
    return Rehearsed(tuple(recorder.trace), trained, notes)


class _Watched(Accelerated):
    """The engine of one process, which tells the recorder how far a step is."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(Layout(device="cpu"))
        self._recorder = recorder
        self._step = 0
        self._phase: Phase = "load"

    def at(self, phase: Phase, block: int) -> None:
        """Go on in another block, if the step is in this phase; recomputation is part of the backward."""
        if phase == self._phase:
            self._recorder.enter(Place(self._phase, block, self._step))

    def accumulate(self, learner: nn.Module, batches: Sequence[T]) -> Iterator[T]:
        """The micro-batches of a step: each begins with a forward."""
        self._step += 1
        for batch in super().accumulate(learner, batches):
            self._enter("forward", BEFORE)
            yield batch

    def backward(self, loss: Tensor) -> None:
        """The backward begins behind the blocks."""
        self._enter("backward", AFTER)
        super().backward(loss)

    def clip(self, weights: Any, norm: float) -> Tensor:  # noqa: ANN401  (as the engine's)
        """From here to the end it is the optimizer's."""
        self._enter("step", BEFORE)
        return super().clip(weights, norm)

    def _enter(self, phase: Phase, block: int) -> None:
        self._phase = phase
        self._recorder.enter(Place(phase, block, self._step))


def _watch(model: PreTrainedModel, at: Callable[[Phase, int], None]) -> None:
    """Tell in which block the forward is, and the backward: it enters a block with the gradient of its result."""
    blocks = _blocks(model)

    def coming(number: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
            at("forward", number)
            if number == 0:
                _on_gradient(args[0] if args else kwargs.get("hidden_states"), lambda: at("backward", BEFORE))

        return hook

    def going(number: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, out: object) -> None:
            _on_gradient(out[0] if isinstance(out, tuple) else out, lambda: at("backward", number))
            if number == len(blocks) - 1:
                at("forward", AFTER)

        return hook

    for number, block in enumerate(blocks):
        block.register_forward_pre_hook(coming(number), with_kwargs=True)
        block.register_forward_hook(going(number))


def _on_gradient(tensor: object, act: Callable[[], None]) -> None:
    if isinstance(tensor, Tensor) and tensor.requires_grad:
        tensor.register_hook(lambda _: act())  # type: ignore[no-untyped-call]  # torch does not annotate it


def _blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder blocks: the list that has as many parts as the model has layers."""
    wanted = model.config.get_text_config().num_hidden_layers
    found = (m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == wanted)
    return next(found, nn.ModuleList())


def examples(plan: Plan, label_share: float, steps: int) -> list[Example]:
    """Documents of the recipe's length that fill the micro-batches of so many steps to the last token."""
    room, bins = plan.schedule.micro_batch_tokens, steps * plan.schedule.accumulation
    length = min(plan.data.length_tokens, room)
    lengths = [length] * (room // length) + ([room % length] if room % length else [])
    turn = Turn(role="assistant", content="-")
    row = Row(kind="text", messages=(turn,), source=Source(file="-", line=1, format="text", group="-"))
    return [Example((0,) * n, _trained(n, label_share), row) for n in lengths * bins]


def _trained(tokens: int, share: float) -> tuple[bool, ...]:
    """The end of a document is trained, as answers stand behind questions."""
    labels = min(tokens, round(tokens * share))
    return (False,) * (tokens - labels) + (True,) * labels


def _fake(group: Group) -> Group:
    """The tensors of a step, as copies on the device: here they are counted."""
    found: Group = _copied(group)
    return found


def _copied(value: Any) -> Any:  # noqa: ANN401  (whatever stands in a batch)
    if isinstance(value, Tensor):
        return torch.empty(value.shape, dtype=value.dtype)
    if isinstance(value, Mapping):
        return {key: _copied(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_copied(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: _copied(getattr(value, one.name)) for one in fields(value)})
    return value
