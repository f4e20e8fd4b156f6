"""What a block of litgpt keeps for its backward: its own decoder code, with one matrix for queries, keys and values.

Counted from its source of October 2023 (`model.py`, `lora.py`, `adapter.py`, `adapter_v2.py`, `rmsnorm.py`) with what
torch's derivatives save. Bytes for each token; h hidden, f MLP width, q all queries, k all keys, all in 16 bit.
"""

from typing import Final

from advisor.catalog.models import ModelShape
from advisor.estimate import shapes
from advisor.estimate.setup import Setup
from recipes.plan import Lora

HALF: Final = 2
FULL: Final = 4
PROMPT: Final = 10
"""Learned positions of LLaMA-Adapter (`adapter_prompt_length`)."""
START: Final = 2
"""The first block that has them (`adapter_start_layer`)."""
ADAPTER: Final = "llama-adapter"
ADAPTER_V2: Final = "llama-adapter-v2"


def stored(setup: Setup) -> float:
    """Bytes for each token that all blocks keep."""
    start = START if _adapter(setup) == ADAPTER else 0
    blocks = setup.shape.layers - start
    return block(setup) * blocks - _first(setup)


def block(setup: Setup) -> float:
    """Bytes for each token of one block through which gradients pass."""
    return (
        _norms(setup)
        + _attention(setup.shape)
        + mlp(setup.shape)
        + _inputs(setup)
        + _lora(setup)
        + _prompts(setup)
    )


def _first(setup: Setup) -> float:
    """What the first block does not keep, because nothing below it moves."""
    if not setup.adds or _adapter(setup) == ADAPTER_V2:
        return 0.0
    shape = setup.shape
    norms = 1 if shape.residual == "in turn" else _kept_norms(setup)
    unmoved = float(norms * _norm(shape))
    if shape.residual != "in turn":  # its MLP reads what no weight that moves has touched
        unmoved += mlp(shape) + (HALF * shape.mlp if _every_input(setup) else 0)
    if _every_input(setup):
        unmoved += HALF * shape.hidden * (1 if shape.residual == "in turn" else _kept_inputs(shape))
    if _adapter(setup) == ADAPTER:  # queries, their keys and values do not depend on anything that moves
        unmoved += _attention(shape) - HALF * shape.queries
    return unmoved


def _norm(shape: ModelShape) -> int:
    """A layer norm keeps its input, which others share; an RMS norm an fp32 copy of it."""
    return HALF * shape.hidden if shape.block == "gelu" else FULL * shape.hidden + FULL


def _kept_norms(setup: Setup) -> int:
    """Inputs of norms that are tensors of their own: two layer norms of the same input share it."""
    residual = setup.shape.residual
    alone = residual == "parallel, one norm" or (setup.shape.block == "gelu" and residual == "parallel")
    return 1 if alone else 2


def _norms(setup: Setup) -> float:
    numbers = 2 * 2 * FULL if setup.shape.block == "gelu" else 0  # mean and deviation
    moving = not setup.adds or _adapter(setup) == ADAPTER_V2
    normalised = 2 * FULL * setup.shape.hidden if moving and setup.shape.block != "gelu" else 0
    return float(_kept_norms(setup) * _norm(setup.shape) + numbers + normalised)


def _attention(shape: ModelShape) -> float:
    """Turned queries and keys, values, the result, and the logarithm of each softmax sum.

    Values are a view into the one matrix product, which so stays whole; grouped keys and values are copied for each head.
    """
    grouped = shape.heads != shape.kv_heads
    values = shape.queries if grouped else shape.queries + 2 * shape.keys
    return HALF * (2 * shape.queries + values + shape.queries) + FULL * shape.heads


def mlp(shape: ModelShape) -> float:
    """The input of gelu; or of silu, its result, and what it is multiplied with."""
    return HALF * shape.mlp * (1 if shape.block == "gelu" else 3)


def _every_input(setup: Setup) -> bool:
    """Whether each linear layer keeps its input: where it moves, and in bitsandbytes' 4-bit product of 2023."""
    return setup.base_is_nf4 or not setup.adds


def _kept_inputs(shape: ModelShape) -> int:
    return 1 if shape.residual == "parallel, one norm" else 2


def _inputs(setup: Setup) -> float:
    """Both normalised inputs, attention's result as the output matrix reads it (a copy), and the MLP's product."""
    if not _every_input(setup):
        return 0.0
    shape = setup.shape
    return float(HALF * (_kept_inputs(shape) * shape.hidden + shape.queries + shape.mlp))


def _lora(setup: Setup) -> float:
    """What is dropped out and its mask, what is between the matrices, and what is scattered into the one product."""
    lora = setup.adaptation
    if not isinstance(lora, Lora) or setup.foreign:
        return 0.0
    layers = shapes.adapted(setup.shape, lora.targets)
    joined = [one for one in layers if one.reads == "attention"]
    alone = [one.inputs for one in layers if one.reads != "attention"]
    widths = ([setup.shape.hidden] if joined else []) + alone
    drops = max(lora.dropout, setup.dropout)
    inputs = sum(widths) * ((HALF + 1) if drops else HALF)
    scattered = HALF * sum(one.outputs for one in joined) if len(joined) < 3 else 0
    return float(inputs + scattered + HALF * lora.rank * len(layers))


def _prompts(setup: Setup) -> float:
    """LLaMA-Adapter: what attention to the prompts gives; version 2 also each linear result before it is scaled."""
    name = _adapter(setup)
    if name is None:
        return 0.0
    shape = setup.shape
    extra = HALF * shape.queries + FULL * shape.heads
    if name == ADAPTER:
        return float(extra)
    share = (shape.layers - START) / shape.layers
    return extra * share + HALF * sum(one.outputs for one in shapes.linears(shape))


def _adapter(setup: Setup) -> str | None:
    name = setup.foreign.method.name if setup.foreign else None
    return name if name in {ADAPTER, ADAPTER_V2} else None


def head_outputs(setup: Setup) -> float:
    """Bytes for each token of logits that are kept before they are scaled (LLaMA-Adapter 2)."""
    return float(HALF * setup.shape.vocabulary) if _adapter(setup) == ADAPTER_V2 else 0.0


def adapter_weights(shape: ModelShape, name: str) -> int:
    """Numbers that move: prompts and their gates; version 2 also scales and biases of linear layers, and norms."""
    prompts = (shape.layers - START) * (PROMPT * shape.hidden + shape.heads)
    if name == ADAPTER:
        return prompts
    scaled = 2 * (shape.layers * sum(_outputs(shape)) + shape.vocabulary)
    per_norm = shape.hidden * (2 if shape.block == "gelu" else 1)
    each = 1 if shape.residual == "parallel, one norm" else 2
    return prompts + scaled + per_norm * (each * shape.layers + 1)


def _outputs(shape: ModelShape) -> tuple[int, ...]:
    return tuple(one.outputs for one in shapes.linears(shape))
