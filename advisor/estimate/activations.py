"""What one decoder block keeps for its backward pass: bytes for each token, and bytes that no token changes.

Llama-type blocks as transformers 5.23 runs them. Attention in a kernel keeps nothing quadratic in the length; eager
attention and masks do. Legend: h hidden, f MLP width, q all queries, k all keys; e bytes of a number of the base.
Source of every coefficient: dry runs on fake tensors ("dry-run" in the bibliography), equal to the byte for the
bf16 rows that the tests hold.
"""

from dataclasses import dataclass
from typing import Final

from advisor.catalog.models import ModelShape
from advisor.estimate import foreign, litgpt, shapes
from advisor.estimate.setup import Setup
from advisor.estimate.shapes import Linear
from recipes.plan import Bottleneck, Ia3, Lora, Prefix

FP32: Final = 4
DORA_OUTPUTS: Final = 6
"""Of DoRA through peft: the base's result, the adapter's, and their sum, for each output and token (dry run)."""
DORA_LENGTHS: Final = 12
"""Bytes for each output row that DoRA normalises, whatever the tokens (dry run)."""
MASK_BYTES: Final = 1
"""What dropout on a GPU keeps for each number."""


@dataclass(frozen=True, slots=True)
class Saved:
    """Bytes per token that one block saves, apart in its MLP and the rest; `fixed` does not depend on tokens."""

    mlp: float
    rest: float
    fixed: float = 0.0

    @property
    def each(self) -> float:
        """What a token costs."""
        return self.mlp + self.rest

    def total(self, tokens: int) -> float:
        """What a block costs in all."""
        return self.each * tokens + self.fixed


@dataclass(frozen=True, slots=True)
class Kept:
    """What an adaptation keeps beside the frozen block: for each token, and whatever the tokens."""

    token: float = 0.0
    fixed: float = 0.0
    product: bool = False
    """Whether the MLP's inner product is kept for the layer that reads it."""


def saved(setup: Setup, moves: frozenset[str] = frozenset()) -> Saved:
    """What one block saves for its backward without checkpointing.

    Args:
        setup: The configuration.
        moves: The base's own weights that move in this block, by name.
    """
    if setup.profile.blocks == "litgpt":
        return Saved(litgpt.mlp(setup.shape), litgpt.block(setup) - litgpt.mlp(setup.shape))
    kept = _of_adaptation(setup)
    own = _inputs(setup, tuple(one for one in shapes.linears(setup.shape) if _moves(one, moves)))
    rest = _norms(setup, moves) + _attention(setup) + _extra(setup, frozen=not moves)
    product = (kept.product or own.product) and setup.profile.swiglu == "eager"
    fixed = kept.fixed + _autocast_copies(setup, moves)
    return Saved(_mlp(setup, product=product), rest + kept.token + own.token, fixed)


def _moves(layer: Linear, moves: frozenset[str]) -> bool:
    return any(name.split(".")[-2] == layer.name for name in moves if name.endswith(".weight"))


def _inputs(setup: Setup, layers: tuple[Linear, ...]) -> Kept:
    """A linear layer that moves, or an adapter that computes in the base's type, needs its input: shared ones once."""
    shared = {layer.reads: layer.inputs for layer in layers if layer.reads in {"attention", "mlp"}}
    product = any(layer.reads == "product" for layer in layers)
    return Kept(setup.compute_bytes * float(sum(shared.values())), product=product)


def _of_adaptation(setup: Setup) -> Kept:
    """What is kept for weights that are added to the block."""
    shape, adaptation, c = setup.shape, setup.adaptation, setup.compute_bytes
    if setup.foreign:
        return Kept(*foreign.kept(shape, setup.foreign))
    match adaptation:
        case Lora():
            return _lora(setup, adaptation)
        case Bottleneck(width=width):
            sites = 2 if adaptation.placement == "houlsby" else 1
            through = 1 if adaptation.activation == "relu" else 2
            return Kept(float(sites * c * (shape.hidden + through * width)))
        case Ia3():
            return Kept(float(c * (2 * shape.keys + 2 * shape.mlp)))
        case Prefix(virtual_tokens=virtual):
            return Kept(_prefix(setup, virtual))
        case _:
            return Kept()


def _prefix(setup: Setup, virtual: int) -> float:
    """Keys and values of every token joined with the learned ones: a copy, and longer ones for the kernel."""
    shape, c, share = setup.shape, setup.compute_bytes, virtual / max(1, setup.longest_tokens)
    if _repeats(setup):
        mask = 2 * virtual if setup.profile.mask else 0
        return 2 * c * shape.queries * share + 2 * c * shape.keys * (1 + share) + mask
    return 2 * c * shape.keys * share


def _lora(setup: Setup, lora: Lora) -> Kept:
    """The input of each adapter, and what is between its two matrices."""
    layers, math = shapes.adapted(setup.shape, lora.targets), setup.profile.adapter_math
    dropout = max(lora.dropout, setup.dropout)
    native = setup.profile.is_native
    if math == "base" and (dropout or (lora.dora and not native)):
        math = "adapter" if setup.profile.adapter_bytes == FP32 and not setup.autocast else "autocast"
    inputs, outputs = sum(one.inputs for one in layers), sum(one.outputs for one in layers)
    masks = MASK_BYTES * inputs if dropout else 0
    lengths = DORA_OUTPUTS * outputs if lora.dora else 0
    fixed = float(DORA_LENGTHS * outputs) if lora.dora else 0.0
    if lora.dora and dropout:  # peft multiplies what was dropped out with the whole matrix again, in fp32
        lengths += setup.compute_bytes * outputs
        fixed += float(FP32 * sum(one.weights for one in layers))
    if math == "base" and lora.dora:  # native: each result before it is scaled, and the inputs of A
        shared = _inputs(setup, layers)
        product = sum(one.inputs for one in layers if one.reads == "product")
        each = sum(one.outputs for one in layers) + product + len(layers) * lora.rank
        return Kept(shared.token + setup.compute_bytes * each, fixed)
    if math == "base":
        shared = _inputs(setup, layers)
        ranks = len(layers) * lora.rank * setup.compute_bytes
        return Kept(shared.token + ranks, fixed, shared.product)
    width, rank = (FP32, FP32) if math == "adapter" else (2, setup.compute_bytes)
    return Kept(float(width * inputs + len(layers) * lora.rank * rank + masks + lengths), fixed)


def _norms(setup: Setup, moves: frozenset[str]) -> float:
    """Two RMS norms: an fp32 copy of the input each, its normalised form where the weight moves, 1 / norm."""
    h, e = setup.shape.hidden, setup.element_bytes
    if setup.profile.norm == "function":
        return 2 * (e * h + FP32)
    moving = sum(1 for name in moves if name.split(".")[0].endswith("layernorm"))
    return 2 * (FP32 * h + FP32) + moving * e * h


def _repeats(setup: Setup) -> bool:
    used = setup.profile
    return used.mask or used.expands_keys or used.attention == "eager"


def _attention(setup: Setup) -> float:
    """Queries, keys, values and the result; the logarithm of each softmax sum in fp32, or all of the softmax."""
    shape, c, used = setup.shape, setup.compute_bytes, setup.profile
    keys = shape.queries if _repeats(setup) else shape.keys
    linear = c * (2 * shape.queries + 2 * keys) + used.attention_copies * c * shape.queries
    if used.attention == "eager":
        return linear + (FP32 + c) * shape.heads * setup.longest_tokens
    return linear + FP32 * shape.heads + (2 * setup.longest_tokens if used.mask else 0)


def _mlp(setup: Setup, *, product: bool) -> float:
    """Gate, silu(gate) and up; their product where the layer after it needs its input."""
    shape, c = setup.shape, setup.compute_bytes
    kept = (2 if setup.profile.swiglu == "function" else 3) + (1 if product else 0)
    if shape.moe is None:
        return kept * c * shape.mlp
    moe = shape.moe
    if setup.profile.kbit_prep:  # each 4-bit product gives fp32 back, and so does each expert
        return FP32 * (moe.active * (shape.hidden + kept * moe.mlp) + moe.experts)
    return moe.active * c * (shape.hidden + kept * moe.mlp) + FP32 * moe.experts


def _autocast_copies(setup: Setup, moves: frozenset[str]) -> float:
    """Under autocast a 16-bit copy of each fp32 matrix that moves lives through forward and backward."""
    if not (setup.autocast and setup.element_bytes == FP32 and moves):
        return 0.0
    return 2.0 * sum(one.weights for one in shapes.linears(setup.shape) if _moves(one, moves))


def _extra(setup: Setup, *, frozen: bool) -> float:
    """What other blocks keep beyond a Llama block (16-bit figures; table of dry runs per architecture)."""
    shape = setup.shape
    if setup.profile.norm == "function":
        return _extra_of_functions(shape)
    h, q, k = shape.hidden, shape.queries, shape.keys
    heads = FP32 * (shape.heads + shape.kv_heads)
    match shape.block:
        case "qwen3":
            return (4 if frozen else 6) * (q + k) + heads
        case "olmo2":
            return 4 * (q + k) + 8 if frozen else 6 * (h + q) + 8 * k + 8
        case "phi3":
            return 2 * (h + q + k)
        case "glm4":
            return (8 if frozen else 12) * h + 2 * q + heads + 8
        case "gemma":
            return 0.0 if frozen else 4 * h
        case "gemma3":
            return (8 * h + 4 * (q + k) if frozen else 20 * h + 8 * (q + k)) + heads + 57
        case _:
            return 0.0


def _extra_of_functions(shape: ModelShape) -> float:
    """The same where norms keep their 16-bit input and one number."""
    h, q, k = shape.hidden, shape.queries, shape.keys
    heads = FP32 * (shape.heads + shape.kv_heads)
    match shape.block:
        case "qwen3":
            return 2 * (q + k) + heads
        case "olmo2":
            return 2 * (q + k) + 8
        case "phi3":
            return 2 * (h + q + k)
        case "glm4":
            return 4 * h + 2 * q + heads + 8
        case "gemma3":
            return 4 * h + 2 * (q + k) + heads + 8
        case _:
            return 0.0
