"""What forward and backward passes keep and need for a moment. One function, one addend."""

from math import ceil
from types import MappingProxyType
from typing import Final

from advisor.catalog.models import ModelShape
from advisor.estimate import litgpt, shapes
from advisor.estimate.activations import Saved, saved
from advisor.estimate.setup import Setup
from advisor.estimate.states import shards, term
from advisor.estimate.terms import Term
from advisor.units import count
from recipes.plan import Lora
from recipes.words import N_

BACKWARD_MLP: Final = MappingProxyType({"eager": 6.0, "function": 5.0})
"""Tensors of the MLP's width alive at the peak of a block's backward, saved ones included (dry run)."""
BACKWARD_HIDDEN: Final = MappingProxyType({"eager": 2.25 / 2, "function": 0.25 / 2})
"""Tensors of the hidden width alive then beside the saved ones; a norm that keeps its 16-bit input shares it with
the checkpoint (dry run)."""
NORM_FP32: Final = 16
"""Bytes a unit of the hidden width in the backward of a norm function: four fp32 temporaries (dry run)."""
UNSAVED_MLP: Final = 3.0
UNSAVED_HIDDEN: Final = 4.0
"""The same beside all saved tensors, where nothing is recomputed: 6f + 8h in 16 bit (dry run)."""
BOUNDARY_TENSORS: Final = 3
"""At the end of the backward: the gradient of the hidden state, the first checkpoint and one between them. Where
norms share their input with the checkpoint, the gradient alone."""
PEFT_HIDDEN: Final = MappingProxyType({"autocast": 8.0, "adapter": 10.0})
"""Bytes per hidden unit that the backward adds where MLP adapters keep inputs of their own (dry run)."""
DORA_NORM: Final = 26
"""Bytes for each weight of the largest adapted MLP matrix while peft measures the rows of W + BA in fp32 (dry run)."""
IN_FLIGHT: Final = 2
"""Checkpoints that are on the device while the others wait in the computer's memory."""


def stored(setup: Setup) -> Term:
    """What the forward leaves for the backward: block inputs if the rest is recomputed, else all it saves."""
    blocks, tokens = shapes.moved(setup.shape, setup.adaptation).blocks, setup.pass_tokens
    layers = sum(blocks.values())
    if setup.checkpointing:
        each = setup.profile.stored_per_hidden * setup.element_bytes / 2 * setup.shape.hidden
        kept = ceil(layers / setup.checkpointing_layers)
        kept = min(IN_FLIGHT, kept) if setup.checkpointing_offload else kept
        return term(
            N_("checkpoints"), kept * tokens * each, f"{kept} x {tokens} x {each:.0f}", "chen2016", "stored"
        )
    if setup.profile.blocks == "litgpt":
        size = litgpt.stored(setup) * tokens
    else:
        size = sum(count_ * saved(setup, block).total(tokens) for block, count_ in blocks.items())
        size = max(0.0, size - _first_norm(setup))
    sums = f"{layers} x {tokens} x {size / max(1, layers * tokens):.0f}"
    return term(N_("activations"), size, sums, kind="stored")


def _first_norm(setup: Setup) -> float:
    """The native trainer's first norm keeps nothing where neither it nor anything before it moves."""
    alone = setup.adds and setup.profile.is_native and not shapes.virtual_tokens(setup.adaptation)
    each = setup.element_bytes if setup.profile.norm == "function" else 4
    return float(each * setup.shape.hidden * setup.pass_tokens) if alone else 0.0


def head(setup: Setup) -> Term:
    """The last norm, the logits and the loss; only label tokens and a chunk at a time where the trainer can."""
    used, scale, shape = setup.profile.head, setup.element_bytes / 2, setup.shape
    tokens = setup.pass_tokens
    if setup.objective == "reward":  # one number for each sequence: no logits
        return term(
            N_("loss head"), scale * shape.hidden * used.per_hidden * tokens, f"{tokens} x {shape.hidden}"
        )
    per_token = used.per_hidden * tokens + used.per_label_hidden * setup.label_tokens
    hidden = scale * shape.hidden * per_token
    rows, each = _logits(setup)
    made = each * rows * shape.vocabulary + _piece(setup)
    logits = max(made, _second_head_gradient(setup), _quantised_head(setup))
    norm = _norm_backward(setup)
    if norm > hidden + logits:
        return term(N_("last norm"), norm, f"{tokens} x {norm / tokens:.0f}")
    return term(N_("loss head"), hidden + logits, f"{hidden:.0f} + {each:g} x {rows} x {shape.vocabulary}")


def _norm_backward(setup: Setup) -> float:
    """The backward of the last norm, where a function makes it: its input, the gradient, and fp32 temporaries."""
    if setup.profile.norm == "eager" or not setup.profile.is_native:
        return 0.0
    each = 2 * setup.element_bytes + NORM_FP32
    return float(each * setup.shape.hidden * setup.pass_tokens)


def _logits(setup: Setup) -> tuple[int, float]:
    """Rows of logits alive at once, and bytes for each of their entries."""
    used, labels = setup.profile.head, setup.label_tokens
    if not used.rows:
        return setup.pass_tokens, used.per_vocabulary + (used.kept if setup.profile.keeps_outputs else 0.0)
    return min(labels, used.rows), used.per_vocabulary


def _piece(setup: Setup) -> float:
    """What the loss of one piece needs beside all logits, and what is kept of them before they are scaled."""
    used, tokens = setup.profile.head, setup.pass_tokens
    piece = used.per_piece * min(tokens, used.piece * setup.rows) * setup.shape.vocabulary
    return piece + (litgpt.head_outputs(setup) * tokens if setup.profile.blocks == "litgpt" else 0.0)


def _quantised_head(setup: Setup) -> float:
    """The backward of an output matrix in 4 bits: itself in 16, beside the logits that are held and their gradient."""
    used, shape = setup.profile, setup.shape
    if not (used.quantises_head and setup.base_is_nf4):
        return 0.0
    logits = used.head.in_backward * setup.pass_tokens * shape.vocabulary
    return (
        logits
        + litgpt.head_outputs(setup) * setup.pass_tokens
        + _unquantised(setup) * shapes.head_weights(shape)
    )


def _unquantised(setup: Setup) -> int:
    """Bytes of a weight of few bits while it computes."""
    return setup.profile.dequantised_bytes or setup.compute_bytes


def _trains_head(setup: Setup) -> bool:
    return shapes.moved(setup.shape, setup.adaptation).head and setup.objective != "reward"


def _second_head_gradient(setup: Setup) -> int:
    """A chunked head that moves scales its gradient once: two of them are alive, after the logits are gone.

    With DPO the scale is known before the gradient is made: there is one.
    """
    twice = setup.profile.loss == "chunked" and _trains_head(setup) and setup.objective != "dpo"
    return shapes.head_weights(setup.shape) * setup.element_bytes if twice else 0


def new_head_gradient(setup: Setup) -> Term:
    """The gradient of the output matrix, made together with the loss, whether or not an earlier one is held."""
    return _head_gradient(setup, made=_trains_head(setup))


def head_gradient(setup: Setup) -> Term:
    """The same in the backward, when it has been added to an earlier one if there is one."""
    return _head_gradient(setup, made=_trains_head(setup) and not setup.accumulates)


def _head_gradient(setup: Setup, *, made: bool) -> Term:
    matrix, e = shapes.head_weights(setup.shape) if made else 0, setup.element_bytes
    return term(N_("head gradient"), matrix * e, f"{count(matrix)} x {e}", kind="gradients")


def backward(setup: Setup) -> Term:
    """The backward of the last block: its saved tensors if they are recomputed, and its own temporaries."""
    size = (
        _recompute(setup) if setup.checkpointing else _temporaries(setup, _widest(setup)) * setup.pass_tokens
    )
    return term(N_("backward of one block"), size, f"{setup.pass_tokens} x {size / setup.pass_tokens:.0f}")


def first_block(setup: Setup) -> Term:
    """The backward of the first block, the last to run: its saved tensors are alive whoever kept them."""
    tokens = setup.pass_tokens
    kept = saved(setup, next(iter(shapes.moved(setup.shape, setup.adaptation).blocks)))
    alive = _temporaries(setup, kept) * tokens + kept.total(tokens)
    size = _recompute(setup) if setup.checkpointing else max(alive, _one_block(setup, _widest(setup)))
    return term(N_("backward of one block"), size, f"{tokens} x {size / tokens:.0f}")


def _mlp_width(shape: ModelShape) -> int:
    return shape.mlp if shape.moe is None else shape.moe.active * shape.moe.mlp


def _recompute(setup: Setup) -> float:
    """Bytes at the peak of a recomputed block's backward; the blocks between two checkpoints are saved whole."""
    blocks, kept = shapes.moved(setup.shape, setup.adaptation).blocks, _widest(setup)
    further = min(setup.checkpointing_layers, sum(blocks.values())) - 1
    return _one_block(setup, kept) + further * kept.total(setup.pass_tokens)


def _one_block(setup: Setup, kept: Saved) -> float:
    """Bytes of one block's backward and of all that it saved."""
    used, each = setup.profile, setup.element_bytes * setup.shape.hidden
    drops = max(setup.dropout, setup.adaptation.dropout if isinstance(setup.adaptation, Lora) else 0.0)
    form = "eager" if drops else used.swiglu
    mlp = max(kept.mlp, BACKWARD_MLP[form] * setup.compute_bytes * _mlp_width(setup.shape))
    hidden = BACKWARD_HIDDEN[used.norm if used.is_native else "eager"] * each
    each_token = kept.rest + mlp + hidden + _peft_inputs(setup) + _wide_experts(setup)
    return each_token * setup.pass_tokens + kept.fixed + _row_lengths(setup)


def _wide_experts(setup: Setup) -> float:
    """Experts on fp32 hidden states: three gradients of one of them, the block's result again, and its gradient."""
    shape, moe = setup.shape, setup.shape.moe
    if moe is None or not setup.profile.kbit_prep:
        return 0.0
    return 4 * (3 * moe.active / moe.experts * moe.mlp + 2 * shape.hidden)


def _row_lengths(setup: Setup) -> float:
    """What DoRA through peft needs to measure a matrix of the MLP, while all that the block saved is there."""
    lora, used = setup.adaptation, setup.profile
    if not isinstance(lora, Lora) or not lora.dora:
        return 0.0
    if used.is_native and used.adapter_math == "base" and not (lora.dropout or setup.dropout):
        return 0.0
    layers = shapes.adapted(setup.shape, lora.targets)
    widest = max((one.weights for one in layers if one.reads in {"mlp", "product"}), default=0)
    return float(DORA_NORM * widest)


def _peft_inputs(setup: Setup) -> float:
    lora = setup.adaptation
    if not isinstance(lora, Lora) or not any(
        layer.reads == "mlp" for layer in shapes.adapted(setup.shape, lora.targets)
    ):
        return 0.0
    return PEFT_HIDDEN.get(setup.profile.adapter_math, 0.0) * setup.shape.hidden


def _widest(setup: Setup) -> Saved:
    """What the block keeps that keeps most."""
    blocks = shapes.moved(setup.shape, setup.adaptation).blocks
    return max((saved(setup, block) for block in blocks), key=lambda one: one.each)


def _temporaries(setup: Setup, kept: Saved) -> float:
    """What a block's backward has beside what was kept for it; a function that makes things again has more."""
    shape, c, used = setup.shape, setup.compute_bytes, setup.profile
    width = c * _mlp_width(shape)
    if used.swiglu == "function":
        return BACKWARD_MLP[used.swiglu] * width - kept.mlp + c * shape.hidden
    return UNSAVED_MLP * width + c * UNSAVED_HIDDEN * shape.hidden


def dequantised(setup: Setup) -> Term:
    """A base of few bits computes with one linear layer at a time in 16 (or 32) bit."""
    largest = shapes.largest_linear(setup.shape) if setup.base != "dense" else 0
    if largest and setup.shape.moe and setup.profile.experts_quantised:
        largest = max(largest, setup.shape.hidden * setup.shape.moe.mlp)
    each = _unquantised(setup)
    return term(N_("one layer, dequantised"), largest * each, f"{count(largest)} x {each}", "dettmers2023")


def boundary(setup: Setup) -> Term:
    """Hidden states between two blocks: the gradient that travels, and the input of the first block."""
    tokens, hidden = setup.pass_tokens, setup.shape.hidden
    tensors = 1 if setup.profile.is_native else BOUNDARY_TENSORS
    size = tensors * setup.element_bytes * hidden * tokens
    return term(N_("hidden states"), size, f"{tensors} x {tokens} x {hidden}")


def tied_gradient(setup: Setup) -> Term:
    """A matrix that is head and embedding gets two gradients; autograd adds them into a third."""
    shape, e = setup.shape, setup.element_bytes
    twice = bool(shape.tied) and _trains_head(setup)
    matrix = shapes.head_weights(shape) if twice else 0
    return term(
        N_("further gradients of a tied head"), 2 * matrix * e, f"2 x {count(matrix)} x {e}", kind="gradients"
    )


def answers(setup: Setup) -> Term:
    """Where answers are generated: keys and values of every token so far, and the logits of one step."""
    if not setup.response_tokens:
        return term(N_("keys and values of answers"), 0, "0")
    shape, rows = setup.shape, setup.rows
    tokens = rows * (setup.longest_tokens + setup.response_tokens)
    cache = 2 * setup.compute_bytes * shape.keys * shape.layers * tokens
    logits = (setup.compute_bytes + 4) * rows * shape.vocabulary
    return term(
        N_("keys and values of answers"),
        cache + logits,
        f"{shape.layers} x {tokens} x {2 * setup.compute_bytes * shape.keys} + {logits}",
    )


def loading(setup: Setup) -> Term:
    """The largest tensor of the file beside its copy; a CPU that quantises also holds the 16-bit model."""
    e, shape = setup.element_bytes, setup.shape
    if setup.base_is_nf4 and setup.profile.device == "cpu":
        size = shapes.parameters(shape)
        return term(N_("the model before it is quantised"), size * e, f"{count(size)} x {e}")
    largest = max(shapes.head_weights(shape), shapes.largest_linear(shape)) // shards(setup, "weights")
    return term(N_("one tensor of the file"), largest * e, f"{count(largest)} x {e}")
