"""Peak memory of a training step: a sum of terms for each moment that could be the peak; the largest one is it.

One function is one addend (`states`, `passes`). What is alive at a moment is a tuple of such functions, so that no sum
can forget one. The moments of a step (`MOMENTS`): the forward's end in the loss head, the backward of the last block,
the end of the backward (in the first block, then in the embedding), the optimizer's step; generating, with objectives
that do; and loading. All figures are bytes on one device, from the second step on, when the optimizer's state exists.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from advisor.estimate import passes, states
from advisor.estimate.setup import Setup, require_eager, require_known
from advisor.estimate.states import weights
from advisor.estimate.terms import Estimate, Fit, Interval, Moment, Term
from advisor.units import GIB
from recipes.words import N_

__all__ = ["LOWERED_BY", "MOMENTS", "estimate", "fit", "weights"]

MOE_TOLERANCE: Final = 0.10
"""Mixtures of experts: the most loaded expert decides, and which one it is depends on the data."""
UNVERIFIED_TOLERANCE: Final = 0.10
"""Models some of whose dimensions were not read from their own config.json."""
PROVISIONAL: Final = 2.0
"""How much wider the interval of a profile is that neither a dry run nor its trainer's source made."""
LIKELY_MARGIN: Final = 1.05
"""How far above the lower bound the card must be before we say "likely"."""

AddsBytes = Callable[[Setup], Term]

RESIDENT: Final[tuple[AddsBytes, ...]] = (
    states.weights,
    states.other_models,
    states.adapters,
    states.optimizer,
    states.workspace,
    states.runtime,
    states.buckets,
    states.held_gradients,
)
"""What is alive all the time, from the second step on."""
FORWARD: Final = (*RESIDENT, states.gathered, passes.stored)

MOMENTS: Final[Mapping[str, tuple[AddsBytes, ...]]] = MappingProxyType(
    {
        "loss": (*FORWARD, passes.head, passes.new_head_gradient),
        "recompute": (
            *FORWARD,
            passes.backward,
            passes.dequantised,
            passes.head_gradient,
            states.last_block_gradients,
        ),
        "bwd_end": (
            *RESIDENT,
            states.gathered,
            states.block_gradients,
            passes.first_block,
            passes.dequantised,
            passes.boundary,
        ),
        "embedding": (*RESIDENT, states.gradients, passes.boundary, passes.tied_gradient),
        "step": (*RESIDENT, states.gradients, states.step_copies),
        "generate": (*RESIDENT, states.gathered, passes.answers),
        "load": (states.weights, states.workspace, states.runtime, passes.loading),
    }
)
"""Every moment that could be the peak, and what is alive then."""
_TERMS: Final = tuple(dict.fromkeys(term for terms in MOMENTS.values() for term in terms))


LOWERED_BY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "loss": N_("fewer tokens at once, or recomputing activations; a 4-bit base makes the rest smaller"),
        "recompute": N_("fewer tokens at once or shorter rows, or recomputing activations"),
        "bwd_end": N_("moving fewer weights: adapters or the last layers, or fewer tokens at once"),
        "embedding": N_("moving fewer weights: adapters or the last layers"),
        "step": N_("moving fewer weights: adapters or the last layers"),
        "generate": N_("fewer or shorter answers at once, or a 4-bit base"),
        "load": N_("a smaller model"),
    }
)
"""What would make the peak smaller if that moment is the peak."""


def estimate(setup: Setup) -> Estimate:
    """Itemise the peak memory of one training process.

    Raises:
        Unsupported: No formula describes the model.
        BadValue: The configuration names what the model does not have.
    """
    require_known(setup.shape, blocks=setup.profile.blocks)
    require_eager(setup.profile)
    found = {function: function(setup) for function in _TERMS}
    alive = {function: term for function, term in found.items() if term.bytes}
    moments = tuple(
        Moment(name, tuple(alive[one] for one in functions if one in alive))
        for name, functions in MOMENTS.items()
        if name != "generate" or setup.response_tokens
    )
    used = setup.profile
    peak = max(moment.bytes for moment in moments)
    wide = PROVISIONAL if used.provisional else 1.0
    reserved = Interval(peak * used.reserved_factor[0], peak * (1 + (used.reserved_factor[1] - 1) * wide))
    low, high = (GIB * size for size in used.context_gib)
    return Estimate(
        moments=moments,
        reserved=reserved,
        process=Interval(reserved.low + low, reserved.high + high),
        profile=used.title,
        warnings=_warnings(setup),
        tolerance=_tolerance(setup),
    )


def _warnings(setup: Setup) -> tuple[str, ...]:
    shape = setup.shape
    said = (
        (
            shape.moe is not None,
            N_("a mixture of experts: the most loaded expert decides, so the figure is +-10 %"),
        ),
        (
            not shape.verified,
            N_("not every dimension of this model was read from its config.json: the figure is +-10 %"),
        ),
        (shape.tied is None, N_("not known whether head and embedding are one matrix: counted as two")),
        (
            setup.profile.out_of_range,
            N_("this version of the trainer was not derived: the nearest one that was stands for it"),
        ),
        (
            setup.profile.provisional,
            N_("this trainer's profile is provisional: neither a dry run nor its source made it"),
        ),
    )
    return tuple(text for true, text in said if true)


def _tolerance(setup: Setup) -> float:
    shape = setup.shape
    return max(
        setup.profile.tolerance * (PROVISIONAL if setup.profile.provisional else 1.0),
        MOE_TOLERANCE if shape.moe else 0.0,
        0.0 if shape.verified else UNVERIFIED_TOLERANCE,
    )


def fit(found: Estimate, usable_bytes: int) -> Fit:
    """Say whether a process fits into `usable_bytes`; only the upper bound of its interval says "fits"."""
    if found.process.high < usable_bytes:
        return "fits"
    if found.process.low * LIKELY_MARGIN < usable_bytes:
        return "likely"
    if found.allocated * (1 - found.tolerance) < usable_bytes:
        return "unlikely"
    return "does_not_fit"
