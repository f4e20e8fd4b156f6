"""Which shallow models stand for a deep one, and how their peaks make the deep one's.

Within one place (the backward of the last block, say) what is alive is a sum of one constant and, for each kind of
block, as many equal pieces as there are such blocks. So a place's peak is affine in their numbers, and two depths give
it exactly. It is not so for the maximum over places, which is taken afterwards.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from recipes.plan import Adaptation, LastLayers, Named, Plan
from trainers.dryrun.model import Config
from trainers.dryrun.place import Place

EDGE: Final = 2
"""Blocks at either end of a region that may differ from those between: the first one has no gradient to hand down."""
SAME_MEMORY: Final = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
"""Kinds of layers that keep the same tensors: a window changes what is computed."""
UNEVEN: Final = (
    "first_k_dense_replace",
    "mlp_only_layers",
    "moe_layer_freq",
    "mlp_layer_types",
    "num_kv_shared_layers",
)
"""Keys that make some blocks unlike others."""


@dataclass(frozen=True, slots=True)
class Depth:
    """A number of blocks, first those that stay frozen (of `last_layers`), then those that may move."""

    frozen: int
    moving: int

    @property
    def layers(self) -> int:
        """All blocks."""
        return self.frozen + self.moving


@dataclass(frozen=True, slots=True)
class Key:
    """A place by what is the same in models of different depth: a block's distance from an end of its region."""

    phase: str
    region: str
    end: str = ""
    distance: int = 0


@dataclass(frozen=True, slots=True)
class Shallow:
    """One model to run, and with which factor its peaks enter the deep one's."""

    depth: Depth
    factor: int


def shallows(plan: Plan, config: Config, layers: int) -> tuple[Shallow, ...]:
    """The models to run for one of `layers` blocks: a small one and one more for each region that grows, or itself."""
    full, each = _regions(plan.adaptation, layers), period(plan)
    if not _is_even(config, plan.adaptation) or (each > 1 and full.frozen):
        return whole(plan, layers)
    frozen, moving = _small(full.frozen, 1), _small(full.moving, each)
    small = Depth(frozen, moving)
    grown = (
        (Depth(frozen + 1, moving), full.frozen - frozen),
        (Depth(frozen, moving + each), (full.moving - moving) // each),
    )
    more = tuple(Shallow(depth, factor) for depth, factor in grown if factor)
    return Shallow(small, 1 - sum(one.factor for one in more)), *more


def whole(plan: Plan, layers: int) -> tuple[Shallow, ...]:
    """The model itself."""
    return (Shallow(_regions(plan.adaptation, layers), 1),)


def period(plan: Plan) -> int:
    """After how many blocks everything repeats."""
    return plan.schedule.checkpointing_layers if plan.schedule.checkpointing else 1


def combined(peaks: Mapping[Shallow, Mapping[Key, int]]) -> dict[Key, int]:
    """The deep model's peak of each place."""
    keys = set.intersection(*(set(found) for found in peaks.values()))
    return {key: sum(one.factor * found[key] for one, found in peaks.items()) for key in keys}


def keys(place: Place, depth: Depth, period: int) -> Iterator[Key]:
    """The names of a place that do not depend on the depth; none for a block far from both ends."""
    if place.block < 0:
        yield Key(place.phase, str(place.block))
        return
    region = "frozen" if place.block < depth.frozen else "moving"
    start, size = (0, depth.frozen) if region == "frozen" else (depth.frozen, depth.moving)
    from_start = place.block - start
    from_end = size - 1 - from_start
    edge = max(EDGE, period)
    if from_start < edge:
        yield Key(place.phase, region, "start", from_start)
    if from_end < edge:
        yield Key(place.phase, region, "end", from_end)


def adapted(adaptation: Adaptation, depth: Depth) -> Adaptation:
    """The same adaptation of a model of this depth."""
    if isinstance(adaptation, LastLayers):
        return adaptation.model_copy(update={"layers": depth.moving})
    return adaptation


def _regions(adaptation: Adaptation, layers: int) -> Depth:
    moving = min(adaptation.layers, layers) if isinstance(adaptation, LastLayers) else layers
    return Depth(layers - moving, moving)


def _small(blocks: int, period: int) -> int:
    """The fewest blocks with both edges, the same remainder of a period, and room to grow; else all of them."""
    least = max(EDGE, period) + period
    small = least + (blocks - least) % period
    return small if small + period < blocks else blocks


def _is_even(config: Config, adaptation: Adaptation) -> bool:
    """Whether all blocks keep the same; where that is not known, the whole depth is run."""
    text = next(
        (config[key] for key in ("text_config", "language_config", "llm_config") if key in config), config
    )
    kinds = set(text.get("layer_types") or ())
    numbered = isinstance(adaptation, Named) and any(c.isdigit() for c in "".join(adaptation.patterns))
    uneven = any(text.get(key) for key in UNEVEN) or text.get("decoder_sparse_step", 1) != 1
    return (len(kinds) < 2 or kinds <= SAME_MEMORY) and not numbered and not uneven
