"""A dry run: the peak memory of a recipe by running the trainer itself, without weights and without a GPU.

Everything a run does to memory is done: the model's classes, adapters, functions, the loop, the objective and the
optimizer are the real ones, on tensors that have shapes and no memory (`trainers.memory.live`). A shallow model is run,
and one with a block more; what is alive in each place grows by the same with each block, so the deep model's peak
follows exactly (`trainers.dryrun.depth`).
"""

import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from recipes.exits import Exit
from recipes.plan import Plan
from recipes.words import N_
from trainers.dryrun.depth import Key, Shallow, adapted, combined, keys, period, shallows, whole
from trainers.dryrun.model import Config, cut, layers
from trainers.dryrun.place import AFTER, BEFORE, Place
from trainers.dryrun.rehearsal import STEPS, Rehearsed, rehearse
from trainers.errors import TrainerError
from trainers.memory.allocator import replay
from trainers.memory.trace import Took, Trace, peaks
from trainers.policy.forward import Path, packed_nll, stock_nll
from trainers.run.equip import ObjectiveOf, tuning

MOMENTS: Final = ("load", "forward", "loss", "recompute", "bwd_end", "embedding", "step")
"""Named as in the closed form: blocks of the forward; head and loss; backward of the last block, of the first one,
of the embedding; the optimizer's step."""


class NotFollowed(TrainerError):
    """A model that cannot be run without values."""

    exit_code = Exit.USAGE
    code = "E0104"


@dataclass(frozen=True, slots=True)
class Reserved:
    """Bytes that the caching allocator would hold of the driver: with expandable segments, and with plain ones."""

    expandable: int
    segments: int


@dataclass(frozen=True, slots=True)
class DryRun:
    """Bytes at the peak of each moment of a step, workspaces included; from the second step on.

    `trained` counts weights that move. `depths` are the numbers of blocks that were run for `layers`. `seconds`
    are of the processor, without imports.
    """

    moments: Mapping[str, int]
    trained: int
    layers: int
    depths: tuple[int, ...]
    seconds: float
    notes: tuple[str, ...] = ()
    reserved: Reserved | None = None

    @property
    def allocated(self) -> int:
        """The highest peak."""
        return max(self.moments.values())

    @property
    def winner(self) -> str:
        """The moment that has it."""
        return max(self.moments, key=lambda name: self.moments[name])


def dry_run(
    plan: Plan,
    config: Config,
    *,
    label_share: float = 1.0,
    reserved: bool = False,
    stock_head: bool = False,
    objective: ObjectiveOf = tuning,
) -> DryRun:
    """Find the peak memory of `plan` on one CUDA device.

    Args:
        plan: The recipe.
        config: The keys of the model's `config.json`.
        label_share: Which share of the tokens is trained, from 0 to 1.
        reserved: Play the trace to an allocator; fragments depend on all of it, so the whole depth is run.
        stock_head: Take rows one by one through the model's own forward, as where no packed row is right.
        objective: What is learned, if it is not supervised fine-tuning.

    Raises:
        MissingWeights: transformers cannot read the configuration.
        RecipeError: The recipe names what the model does not have.
    """
    began = time.process_time()
    depth = layers(config)
    small = whole(plan, depth) if reserved else shallows(plan, config, depth)

    def rehearsed(shallow: Shallow, way: Path) -> Rehearsed:
        return _rehearsed(plan, config, shallow, way, label_share, objective)

    runs = _runs(rehearsed, config, small, stock=stock_head)
    moments: dict[str, int] = {}
    for key, peak in combined({one: _by_key(run, one, plan) for one, run in runs.items()}).items():
        for name in _moments(key):
            moments[name] = max(moments.get(name, 0), peak + sum(workspaces()))
    return DryRun(
        moments={name: moments[name] for name in MOMENTS if name in moments},
        trained=sum(one.factor * run.trained for one, run in runs.items()),
        layers=depth,
        depths=tuple(one.depth.layers for one in runs),
        seconds=time.process_time() - began,
        notes=next(iter(runs.values())).notes,
        reserved=_reserved(next(iter(runs.values())).trace) if reserved else None,
    )


def _runs(
    rehearsed: Callable[[Shallow, Path], Rehearsed], config: Config, small: Sequence[Shallow], *, stock: bool
) -> dict[Shallow, Rehearsed]:
    """Run every shallow model, row by row where packed rows are refused; a real run also asks a probe of values.

    Raises:
        NotFollowed: The model does what depends on values.
    """

    def through(way: Path) -> dict[Shallow, Rehearsed]:
        return {one: rehearsed(one, way) for one in small}

    try:
        try:
            return through(Path(stock_nll if stock else packed_nll))
        except NotImplementedError as reason:
            return through(Path(stock_nll, str(reason)))
    except (DataDependentOutputException, DynamicOutputShapeException, NotImplementedError) as reason:
        raise NotFollowed(
            N_("what this model does depends on values, which a dry run does not have: {reason}"),
            remedy=N_("measure a few steps on a GPU instead"),
            where=str(config.get("model_type", "")),
            reason=f"{type(reason).__name__} {reason}"[:300],
        ) from reason


def workspaces() -> tuple[int, ...]:
    """Bytes of each workspace of the matrix library."""
    found = tomllib.loads(files("trainers.dryrun").joinpath("cuda.toml").read_text(encoding="utf-8"))
    workspace: dict[str, int] = found["workspace"]
    return (workspace["bytes"],) * workspace["handles"]


def _rehearsed(
    plan: Plan, config: Config, shallow: Shallow, way: Path, label_share: float, objective: ObjectiveOf
) -> Rehearsed:
    """Run one of the models that stand for the deep one."""
    adaptation = adapted(plan.adaptation, shallow.depth)
    short = plan.model_copy(update={"adaptation": adaptation})
    return rehearse(short, cut(config, shallow.depth.layers), way, label_share, objective)


def _by_key(run: Rehearsed, shallow: Shallow, plan: Plan) -> dict[Key, int]:
    """The peaks of the last step (and of loading) by what does not depend on the depth."""
    found: dict[Key, int] = {}
    for place, peak in peaks(run.trace).items():
        if isinstance(place, Place) and place.step in (0, STEPS):
            for key in keys(place, shallow.depth, period(plan)):
                found[key] = max(found.get(key, 0), peak)
    return found


def _reserved(trace: Trace) -> Reserved:
    first = [Took(-number, each, "workspace") for number, each in enumerate(workspaces(), start=1)]
    expandable, segments = (replay([*first, *trace], expandable=how).reserved for how in (True, False))
    return Reserved(expandable, segments)


def _moments(key: Key) -> tuple[str, ...]:
    """The moments of an estimate that a place belongs to."""
    match key.phase, key.region:
        case ("load" | "step") as phase, _:
            return (phase,)
        case "equip", _:
            return ()
        case _, region if region == str(AFTER):
            return ("loss",)
        case "forward", _:
            return ("forward",)
        case _, region if region == str(BEFORE):
            return ("embedding",)
        case _:
            return ("recompute",) if key.end == "end" else ("bwd_end",)
