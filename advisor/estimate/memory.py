"""Peak memory of a training step: a sum of terms for each moment that could be the peak; the largest one is it.

One function is one addend. What is alive at a moment is a tuple of such functions, so that no sum can forget one.
The moments of a step (`MOMENTS`): the forward's end in the loss head, the backward of the last block, the end of the
backward (in the first block, then in the embedding), the optimizer's step; and loading. All figures are bytes on one device, from the second step on, when the
optimizer's state exists.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from advisor.catalog.models import ModelShape
from advisor.estimate import shapes
from advisor.estimate.activations import Saved, saved
from advisor.estimate.setup import Setup, require_known
from advisor.estimate.terms import Estimate, Fit, Interval, Kind, Moment, Term
from advisor.units import GIB, count
from recipes.plan import Full, Lora
from recipes.words import N_

NF4_BYTES: Final = 0.5 + 4 / 64
"""Per weight: 4 bits and an fp32 scale for each block of 64 (Dettmers et al., 2023)."""
NF4_DOUBLE_BYTES: Final = 0.5 + 1 / 64 + 4 / (64 * 256)
"""The same with the scales quantised to 8 bits in groups of 256."""
BACKWARD_MLP: Final = 6.0
"""Tensors of the MLP's width alive at the peak of a block's backward, saved ones included (dry run)."""
BACKWARD_HIDDEN: Final = 2.25 / 2
"""Tensors of the hidden width alive then beside the saved ones (dry run: 2.25 bytes a unit in 16 bit)."""
UNSAVED_MLP: Final = 3.0
UNSAVED_HIDDEN: Final = 4.0
"""The same beside all saved tensors, where nothing is recomputed: 6f + 8h in 16 bit (dry run)."""
BOUNDARY_TENSORS: Final = 3
"""At the end of the backward: the gradient of the hidden state, the first checkpoint and one between them."""
PEFT_HIDDEN: Final = MappingProxyType({"autocast": 8.0, "adapter": 10.0})
"""Bytes per hidden unit that the backward adds where MLP adapters keep inputs of their own (dry run)."""
MOE_TOLERANCE: Final = 0.10
"""Mixtures of experts: the most loaded expert decides, and which one it is depends on the data."""
UNVERIFIED_TOLERANCE: Final = 0.10
"""Models some of whose dimensions were not read from their own config.json."""
LIKELY_MARGIN: Final = 1.05
"""How far above the lower bound the card must be before we say "likely"."""


def _term(name: str, size: float, arithmetic: str, source: str = "dry-run", kind: Kind = "transient") -> Term:
    return Term(name, round(size), arithmetic, source, kind)


def weights(setup: Setup) -> Term:
    """The model as it is stored; 4 bits only for the linear layers inside the blocks."""
    shape, e = setup.shape, setup.element_bytes
    everything = shapes.parameters(shape)
    if not setup.base_is_nf4:
        return _term(
            N_("weights"), everything * e, f"{count(everything)} x {e}", setup.shape.source, kind="weights"
        )
    quantised = shapes.linear_weights(shape)
    if setup.profile.experts_quantised:
        quantised += shapes.expert_weights(shape)
    each, rest = _nf4_bytes(setup), everything - quantised
    sums = f"{count(quantised)} x {each:.4f} + {count(rest)} x {e}"
    return _term(N_("weights"), quantised * each + rest * e, sums, "dettmers2023", kind="weights")


def _nf4_bytes(setup: Setup) -> float:
    double = isinstance(setup.adaptation, Lora) and setup.adaptation.double_quantisation
    return NF4_DOUBLE_BYTES if double else NF4_BYTES


def adapters(setup: Setup) -> Term:
    """Adapter weights; nothing where the model itself moves."""
    trained = setup.trained if isinstance(setup.adaptation, Lora) else 0
    size = trained * setup.trained_bytes
    return _term(N_("adapters"), size, f"{count(trained)} x {setup.trained_bytes}", "hu2021", kind="weights")


def optimizer(setup: Setup) -> Term:
    """AdamW keeps two moments for each trained weight, in the weight's type."""
    size = setup.trained * 2 * setup.trained_bytes
    return _term(
        N_("optimizer"),
        size,
        f"{count(setup.trained)} x 2 x {setup.trained_bytes}",
        "loshchilov2017",
        kind="optimizer",
    )


def workspace(setup: Setup) -> Term:
    """Scratch memory of the matrix library, one piece for each thread that computes."""
    size = setup.profile.workspace_bytes
    return _term(N_("workspace"), size, f"{size}", "cuda-allocator", kind="workspace")


def runtime(setup: Setup) -> Term:
    """What the libraries take in a process's own memory once they compute (on a CPU, where it is counted)."""
    size = setup.profile.runtime_bytes
    return _term(N_("libraries"), size, f"{size}", "embedded-example", kind="workspace")


def held_gradients(setup: Setup) -> Term:
    """Gradients of earlier micro-batches, which live through the forward of the next one."""
    trained = setup.trained if setup.accumulates else 0
    size = trained * setup.trained_bytes
    return _term(
        N_("accumulated gradients"), size, f"{count(trained)} x {setup.trained_bytes}", kind="gradients"
    )


def stored(setup: Setup) -> Term:
    """What the forward leaves for the backward: block inputs if the rest is recomputed, else all it saves."""
    layers, tokens = shapes.trained_layers(setup.shape, setup.adaptation), setup.micro_batch_tokens
    if setup.checkpointing:
        each = setup.profile.stored_per_hidden * setup.element_bytes / 2 * setup.shape.hidden
        return _term(
            N_("checkpoints"),
            layers * tokens * each,
            f"{layers} x {tokens} x {each:.0f}",
            "chen2016",
            kind="stored",
        )
    each = saved(setup).total
    return _term(
        N_("activations"), layers * tokens * each, f"{layers} x {tokens} x {each:.0f}", kind="stored"
    )


def head(setup: Setup) -> Term:
    """The last norm, the logits and the loss; only label tokens and a chunk at a time where the trainer can."""
    shape, used, scale = setup.shape, setup.profile, setup.element_bytes / 2
    per_token = (
        used.loss_per_hidden * setup.micro_batch_tokens + used.loss_per_label_hidden * setup.label_tokens
    )
    hidden = scale * shape.hidden * per_token
    rows, each = _logits(setup)
    logits = max(each * rows * shape.vocabulary, _second_head_gradient(setup))
    return _term(N_("loss head"), hidden + logits, f"{hidden:.0f} + {each:g} x {rows} x {shape.vocabulary}")


def _second_head_gradient(setup: Setup) -> int:
    """A chunked head that moves scales its gradient once: two of them are alive, after the logits are gone."""
    twice = setup.profile.loss == "chunked" and shapes.trains_head(setup.shape, setup.adaptation)
    return shapes.head_weights(setup.shape) * setup.element_bytes if twice else 0


def _logits(setup: Setup) -> tuple[int, float]:
    """Rows of logits alive at once, and bytes for each of their entries."""
    used, labels = setup.profile, setup.label_tokens
    if used.loss == "full":
        return setup.micro_batch_tokens, used.loss_per_vocabulary
    if labels <= used.loss_rows:
        return labels, used.loss_first_per_vocabulary
    return used.loss_rows, used.loss_per_vocabulary


def new_head_gradient(setup: Setup) -> Term:
    """The gradient of the output matrix, made together with the loss, whether or not an earlier one is held."""
    trains = shapes.trains_head(setup.shape, setup.adaptation)
    return _head_gradient(setup, made=trains)


def head_gradient(setup: Setup) -> Term:
    """The same in the backward, when it has been added to an earlier one if there is one."""
    trains = shapes.trains_head(setup.shape, setup.adaptation)
    return _head_gradient(setup, made=trains and not setup.accumulates)


def _head_gradient(setup: Setup, *, made: bool) -> Term:
    matrix, e = shapes.head_weights(setup.shape) if made else 0, setup.element_bytes
    return _term(N_("head gradient"), matrix * e, f"{count(matrix)} x {e}", kind="gradients")


def backward(setup: Setup) -> Term:
    """The backward of one block: its saved tensors if they are recomputed, and its own temporaries."""
    tokens = setup.micro_batch_tokens
    each = _recompute(setup) if setup.checkpointing else _temporaries(setup)
    return _term(N_("backward of one block"), tokens * each, f"{tokens} x {each:.0f}")


def first_block(setup: Setup) -> Term:
    """The backward of the first block, the last to run: its saved tensors are alive whoever kept them."""
    tokens = setup.micro_batch_tokens
    each = _recompute(setup) if setup.checkpointing else saved(setup).total + _temporaries(setup)
    return _term(N_("backward of one block"), tokens * each, f"{tokens} x {each:.0f}")


def _mlp_width(shape: ModelShape) -> int:
    return shape.mlp if shape.moe is None else shape.moe.active * shape.moe.mlp


def _recompute(setup: Setup) -> float:
    """Bytes per token at the peak of a recomputed block's backward."""
    kept: Saved = saved(setup)
    mlp = max(kept.mlp, BACKWARD_MLP * setup.element_bytes * _mlp_width(setup.shape))
    hidden = BACKWARD_HIDDEN * setup.element_bytes * setup.shape.hidden
    return kept.rest + mlp + hidden + _peft_inputs(setup)


def _peft_inputs(setup: Setup) -> float:
    lora = setup.adaptation
    if not isinstance(lora, Lora) or not any(
        layer.reads == "mlp" for layer in shapes.adapted(setup.shape, lora.targets)
    ):
        return 0.0
    return PEFT_HIDDEN.get(setup.profile.adapter_math, 0.0) * setup.shape.hidden


def _temporaries(setup: Setup) -> float:
    shape = setup.shape
    return setup.element_bytes * (UNSAVED_MLP * _mlp_width(shape) + UNSAVED_HIDDEN * shape.hidden)


def dequantised(setup: Setup) -> Term:
    """A 4-bit base computes with one linear layer at a time in 16 (or 32) bit."""
    largest = shapes.largest_linear(setup.shape) if setup.base_is_nf4 else 0
    size = largest * setup.element_bytes
    return _term(
        N_("one layer, dequantised"), size, f"{count(largest)} x {setup.element_bytes}", "dettmers2023"
    )


def block_gradients(setup: Setup) -> Term:
    """Gradients when the first block's backward runs: all but the embedding's, which comes after it."""
    later = shapes.head_weights(setup.shape) if _moves_embedding(setup) and not setup.shape.tied else 0
    trained = 0 if setup.accumulates else setup.trained - later
    return _term(
        N_("gradients"),
        trained * setup.trained_bytes,
        f"{count(trained)} x {setup.trained_bytes}",
        kind="gradients",
    )


def _moves_embedding(setup: Setup) -> bool:
    return isinstance(setup.adaptation, Full)


def gradients(setup: Setup) -> Term:
    """Gradients of everything that moves, where no earlier micro-batch holds them already."""
    trained = 0 if setup.accumulates else setup.trained
    return _term(
        N_("gradients"),
        trained * setup.trained_bytes,
        f"{count(trained)} x {setup.trained_bytes}",
        kind="gradients",
    )


def last_block_gradients(setup: Setup) -> Term:
    """Gradients of the last block, which grow while its saved tensors are still there."""
    if setup.accumulates or isinstance(setup.adaptation, Lora):
        return _term(N_("gradients of the last block"), 0, "0", kind="gradients")
    weights_ = shapes.block_parameters(setup.shape)
    return _term(
        N_("gradients of the last block"),
        weights_ * setup.element_bytes,
        f"{count(weights_)} x {setup.element_bytes}",
        kind="gradients",
    )


def boundary(setup: Setup) -> Term:
    """Hidden states between two blocks: the gradient that travels, and the input of the first block."""
    size = BOUNDARY_TENSORS * setup.element_bytes * setup.shape.hidden * setup.micro_batch_tokens
    return _term(
        N_("hidden states"), size, f"{BOUNDARY_TENSORS} x {setup.micro_batch_tokens} x {setup.shape.hidden}"
    )


def tied_gradient(setup: Setup) -> Term:
    """A matrix that is head and embedding gets two gradients; autograd adds them into a third."""
    shape, e = setup.shape, setup.element_bytes
    twice = bool(shape.tied) and shapes.trains_head(shape, setup.adaptation)
    matrix = shapes.head_weights(shape) if twice else 0
    return _term(
        N_("further gradients of a tied head"), 2 * matrix * e, f"2 x {count(matrix)} x {e}", kind="gradients"
    )


def step_copies(setup: Setup) -> Term:
    """Copies of all trained weights that an unfused optimizer makes for a moment."""
    size = setup.profile.step_copies * setup.trained * setup.trained_bytes
    return _term(N_("optimizer's copies"), size, f"{setup.profile.step_copies} x {count(setup.trained)}")


def loading(setup: Setup) -> Term:
    """The largest tensor of the file beside its copy; a CPU that quantises also holds the 16-bit model."""
    e = setup.element_bytes
    if setup.base_is_nf4 and setup.profile.device == "cpu":
        size = shapes.parameters(setup.shape)
        return _term(N_("the model before it is quantised"), size * e, f"{count(size)} x {e}")
    largest = max(shapes.head_weights(setup.shape), shapes.largest_linear(setup.shape))
    return _term(N_("one tensor of the file"), largest * e, f"{count(largest)} x {e}")


AddsBytes = Callable[[Setup], Term]

RESIDENT: Final[tuple[AddsBytes, ...]] = (weights, adapters, optimizer, workspace, runtime, held_gradients)
"""What is alive all the time, from the second step on."""

MOMENTS: Final[Mapping[str, tuple[AddsBytes, ...]]] = MappingProxyType(
    {
        "loss": (*RESIDENT, stored, head, new_head_gradient),
        "recompute": (*RESIDENT, stored, backward, dequantised, head_gradient, last_block_gradients),
        "bwd_end": (*RESIDENT, block_gradients, first_block, dequantised, boundary),
        "embedding": (*RESIDENT, gradients, boundary, tied_gradient),
        "step": (*RESIDENT, gradients, step_copies),
        "load": (weights, workspace, runtime, loading),
    }
)
"""Every moment that could be the peak, and what is alive then."""


LOWERED_BY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "loss": N_("fewer tokens at once, or recomputing activations; a 4-bit base makes the rest smaller"),
        "recompute": N_("fewer tokens at once or shorter rows, or recomputing activations"),
        "bwd_end": N_("moving fewer weights: adapters or the last layers, or fewer tokens at once"),
        "embedding": N_("moving fewer weights: adapters or the last layers"),
        "step": N_("moving fewer weights: adapters or the last layers"),
        "load": N_("a smaller model"),
    }
)
"""What would make the peak smaller if that moment is the peak."""


def estimate(setup: Setup) -> Estimate:
    """Itemise the peak memory of one training process.

    Raises:
        Unsupported: No formula describes the model.
    """
    require_known(setup.shape)
    moments = tuple(_moment(name, terms, setup) for name, terms in MOMENTS.items())
    used = setup.profile
    peak = max(moment.bytes for moment in moments)
    reserved = Interval(peak * used.reserved_factor[0], peak * used.reserved_factor[1])
    low, high = (GIB * size for size in used.context_gib)
    return Estimate(
        moments=moments,
        reserved=reserved,
        process=Interval(reserved.low + low, reserved.high + high),
        profile=used.title,
        warnings=_warnings(setup.shape),
        tolerance=_tolerance(setup),
    )


def _moment(name: str, terms: tuple[AddsBytes, ...], setup: Setup) -> Moment:
    found = (term(setup) for term in terms)
    return Moment(name, tuple(term for term in found if term.bytes))


def _warnings(shape: ModelShape) -> tuple[str, ...]:
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
    )
    return tuple(text for true, text in said if true)


def _tolerance(setup: Setup) -> float:
    shape = setup.shape
    return max(
        setup.profile.tolerance,
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
