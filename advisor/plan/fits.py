"""What fits on a card: for each method the largest model of the catalogue, and some well-known models."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from advisor.catalog.models import ModelShape, models
from advisor.estimate import states
from advisor.estimate.memory import estimate, fit
from advisor.estimate.profiles import NATIVE, Profile, profile
from advisor.estimate.setup import Setup
from advisor.estimate.shapes import parameters
from advisor.estimate.terms import Fit
from advisor.plan.defaults import last_layers
from recipes.plan import Adaptation, Full, LastLayers, Lora

METHODS: Final = ("full", "last_layers", "lora", "qlora")
"""In the order of what they need: most first."""

WELL_KNOWN: Final = (
    "Qwen/Qwen3-0.6B",
    "meta-llama/Llama-3.2-1B",
    "Qwen/Qwen3-4B",
    "meta-llama/Llama-3.1-8B",
    "Qwen/Qwen3-14B",
    "Qwen/Qwen3-32B",
    "meta-llama/Llama-3.1-70B",
)
"""One model for each size that people ask about."""


@dataclass(frozen=True, slots=True)
class FitRow:
    """One model with one method on one card.

    `needs_bytes` is the upper bound of the whole process, `allocated_bytes` the predicted peak; `largest` marks the
    largest model of the catalogue that fits with this method.
    """

    method: str
    model: str
    parameters: int
    allocated_bytes: int
    needs_bytes: int
    verdict: Fit
    largest: bool = False


def adaptation(method: str, shape: ModelShape) -> Adaptation:
    """The usual form of a method for a model."""
    match method:
        case "full":
            return Full()
        case "last_layers":
            return LastLayers(layers=last_layers(shape).value)
        case "lora":
            return Lora()
        case _:
            return Lora(base="nf4")


def configuration(
    shape: ModelShape,
    method: str,
    *,
    seq_tokens: int,
    micro_batch: int = 1,
    used: Profile | None = None,
    checkpointing: bool = True,
) -> Setup:
    """One model with one method in its usual form: `micro_batch` rows of `seq_tokens` tokens at once."""
    used = used or profile(NATIVE)
    return Setup(
        shape=shape,
        adaptation=adaptation(method, shape),
        profile=used,
        micro_batch_tokens=seq_tokens * micro_batch,
        longest_tokens=seq_tokens,
        checkpointing=checkpointing,
        dtype="float32" if used.device == "cpu" else "bfloat16",
    )


def row(shape: ModelShape, method: str, usable_bytes: int, *, seq_tokens: int) -> FitRow:
    """Estimate one model with one method, one row of `seq_tokens` tokens at once.

    Raises:
        Unsupported: No formula tells the model's memory.
    """
    found = estimate(configuration(shape, method, seq_tokens=seq_tokens))
    verdict = fit(found, usable_bytes)
    needs = round(found.process.high)
    return FitRow(method, shape.name, parameters(shape), found.allocated, needs, verdict)


def table(vram_bytes: int, seq_tokens: int = 2048) -> tuple[FitRow, ...]:
    """What fits into `vram_bytes`: first the largest model for each method, then well-known ones with all methods.

    One row of `seq_tokens` tokens at once, activations recomputed: the least that a run of that length needs.
    """
    known = [models()[name] for name in WELL_KNOWN]
    largest = (_largest(method, vram_bytes, seq_tokens) for method in METHODS)
    return (
        *(found for found in largest if found is not None),
        *(row(shape, method, vram_bytes, seq_tokens=seq_tokens) for shape in known for method in METHODS),
    )


def _largest(method: str, vram_bytes: int, seq_tokens: int) -> FitRow | None:
    for shape in sorted(_estimated(models().values()), key=parameters, reverse=True):
        if _at_rest(shape, method, seq_tokens) >= vram_bytes:
            continue
        found = row(shape, method, vram_bytes, seq_tokens=seq_tokens)
        if found.verdict == "fits":
            return replace(found, largest=True)
    return None


def _at_rest(shape: ModelShape, method: str, seq_tokens: int) -> int:
    """Bytes of weights and moments alone: what no moment is below, and quickly known."""
    one = configuration(shape, method, seq_tokens=seq_tokens)
    return states.weights(one).bytes + states.optimizer(one).bytes


def _estimated(shapes: Iterable[ModelShape]) -> Iterator[ModelShape]:
    return (shape for shape in shapes if shape.estimator == "closed_form" and shape.verified)
