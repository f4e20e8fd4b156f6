"""Counting weights: the linear layers of a decoder block, all parameters, and what a method trains."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import cache
from types import MappingProxyType
from typing import Final, assert_never

from advisor.catalog.models import ModelShape, Moe
from advisor.errors import BadValue
from recipes.plan import (
    Adaptation,
    Bottleneck,
    Full,
    Ia3,
    LastLayers,
    Lora,
    Named,
    Prefix,
    PromptTuning,
    PTuning,
)
from recipes.words import N_

ALL_LINEAR: Final = "all-linear"
"""The target that means each linear layer inside the blocks."""


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear layer of a block: a matrix of `inputs` x `outputs`; `reads` names the tensor it is fed."""

    name: str
    inputs: int
    outputs: int
    reads: str

    @property
    def weights(self) -> int:
        """Weights of the matrix, without a bias."""
        return self.inputs * self.outputs


def linears(shape: ModelShape) -> tuple[Linear, ...]:
    """The linear layers of one block, as the code of its architecture names them (transformers 5.23).

    Experts are not among them: transformers 5 keeps them in 3-D parameters that neither bitsandbytes nor
    adapters touch.
    """
    return (*_attention(shape), *(() if shape.moe else _mlp(shape)))


def _attention(shape: ModelShape) -> tuple[Linear, ...]:
    hidden, queries, keys = shape.hidden, shape.queries, shape.keys
    out = Linear("o_proj", queries, hidden, "heads")
    if shape.block == "phi3":
        return (Linear("qkv_proj", hidden, queries + 2 * keys, "attention"), out)
    return (
        Linear("q_proj", hidden, queries, "attention"),
        Linear("k_proj", hidden, keys, "attention"),
        Linear("v_proj", hidden, keys, "attention"),
        out,
    )


def _mlp(shape: ModelShape) -> tuple[Linear, ...]:
    down = Linear("down_proj", shape.mlp, shape.hidden, "product")
    if shape.block == "gelu":
        return (Linear("up_proj", shape.hidden, shape.mlp, "mlp"), down)
    if shape.block in {"phi3", "glm4"}:
        return (Linear("gate_up_proj", shape.hidden, 2 * shape.mlp, "mlp"), down)
    return (
        Linear("gate_proj", shape.hidden, shape.mlp, "mlp"),
        Linear("up_proj", shape.hidden, shape.mlp, "mlp"),
        down,
    )


def linear_weights(shape: ModelShape) -> int:
    """Weights of all linear layers inside the blocks: what a 4-bit base quantises."""
    return shape.layers * sum(layer.weights for layer in linears(shape))


def expert_weights(shape: ModelShape) -> int:
    """Weights of all experts and routers."""
    return shape.layers * _experts(shape, shape.moe) if shape.moe else 0


def _experts(shape: ModelShape, moe: Moe) -> int:
    return moe.experts * (3 * shape.hidden * moe.mlp + shape.hidden)


def _norms(shape: ModelShape) -> int:
    """Norm weights of one block."""
    hidden, width = shape.hidden, shape.head_width
    match shape.block:
        case "qwen3":
            return 2 * hidden + 2 * width
        case "olmo2":
            return 2 * hidden + shape.queries + shape.keys
        case "glm4":
            return 4 * hidden
        case "gemma3":
            return 4 * hidden + 2 * width
        case "gelu":  # layer norms have a bias
            return 2 * hidden * (1 if shape.residual == "parallel, one norm" else 2)
        case _:
            return 2 * hidden


def embedding_weights(shape: ModelShape) -> int:
    """Weights of the embedding, and of the head where it is not known to be the same matrix."""
    return shape.vocabulary * shape.hidden * (1 if shape.tied else 2)


def block_parameters(shape: ModelShape) -> int:
    """Parameters of one decoder block."""
    bias = shape.queries + 2 * shape.keys if shape.qkv_bias else 0
    bias = sum(layer.outputs for layer in linears(shape)) if shape.biased else bias
    experts = _experts(shape, shape.moe) if shape.moe else 0
    return sum(layer.weights for layer in linears(shape)) + experts + bias + _norms(shape)


def parameters(shape: ModelShape) -> int:
    """All parameters of the language model, computed from its dimensions."""
    last = shape.hidden * (2 if shape.block == "gelu" else 1) + (shape.vocabulary if shape.head_bias else 0)
    return embedding_weights(shape) + shape.layers * block_parameters(shape) + last


def head_weights(shape: ModelShape) -> int:
    """Weights of the matrix that gives the logits."""
    return shape.vocabulary * shape.hidden


def matmul_weights(shape: ModelShape) -> int:
    """Weights that one token meets in matrix products, without the head: of experts, only the active ones."""
    experts = (
        shape.moe.active * 3 * shape.hidden * shape.moe.mlp + shape.moe.experts * shape.hidden
        if shape.moe
        else 0
    )
    return linear_weights(shape) + shape.layers * experts


def largest_linear(shape: ModelShape) -> int:
    """Weights of the largest linear layer of a block: one such is alive when a 4-bit base computes."""
    return max(layer.weights for layer in linears(shape))


def adapted(shape: ModelShape, targets: Iterable[str]) -> tuple[Linear, ...]:
    """The linear layers of one block that carry an adapter.

    Raises:
        BadValue: A target that the model's blocks do not have.
    """
    wanted, layers = set(targets), linears(shape)
    if ALL_LINEAR in wanted:
        return layers
    names = {layer.name for layer in layers}
    if unknown := wanted - names:
        raise BadValue(
            N_("{model} has no linear layer called {names} in its blocks"),
            remedy=N_('choose among {known}, or "all-linear"'),
            model=shape.name,
            names=", ".join(sorted(unknown)),
            known=", ".join(sorted(names)),
        )
    return tuple(layer for layer in layers if layer.name in wanted)


def adapter_parameters(shape: ModelShape, lora: Lora) -> int:
    """Parameters of all adapters: rank x (inputs + outputs) for each adapted layer (Hu et al., 2021).

    With DoRA (Liu et al., 2024) also the length of each output row.
    """
    layers = adapted(shape, lora.targets)
    widths = lora.rank * sum(layer.inputs + layer.outputs for layer in layers)
    lengths = sum(layer.outputs for layer in layers) if lora.dora else 0
    return shape.layers * (widths + lengths)


@cache
def block_tensors(shape: ModelShape) -> Mapping[str, int]:
    """The weights of one block by the name that they have inside it (transformers 5.23), and their sizes."""
    part = {"attention": "self_attn", "heads": "self_attn"}
    found = {f"{part.get(one.reads, 'mlp')}.{one.name}.weight": one.weights for one in linears(shape)}
    if shape.biased:
        found |= {name.replace(".weight", ".bias"): size for name, size in _biases(shape, part).items()}
    elif shape.qkv_bias:
        widths = {"q": shape.queries, "k": shape.keys, "v": shape.keys}
        found |= {f"self_attn.{name}_proj.bias": width for name, width in widths.items()}
    if shape.moe:
        found["mlp.experts"] = _experts(shape, shape.moe)
    return MappingProxyType({**found, **_norm_tensors(shape)})


def _biases(shape: ModelShape, part: Mapping[str, str]) -> dict[str, int]:
    return {f"{part.get(one.reads, 'mlp')}.{one.name}.weight": one.outputs for one in linears(shape)}


def _norm_tensors(shape: ModelShape) -> dict[str, int]:
    between = {"input_layernorm.weight": shape.hidden, "post_attention_layernorm.weight": shape.hidden}
    rest = _norms(shape) - 2 * shape.hidden
    return {**between, "further norms": rest} if rest else between


@dataclass(frozen=True, slots=True)
class Moved:
    """Which of the base's own weights move: whole or partly, block by block, and at both ends.

    `blocks` counts blocks by the names of what moves in them, for the blocks through which the gradient passes.
    """

    blocks: Mapping[frozenset[str], int]
    weights: int
    embedding: bool = False
    head: bool = False
    final_norm: bool = False

    @property
    def layers(self) -> int:
        """Blocks through which the backward pass goes."""
        return sum(self.blocks.values())


@cache
def moved(shape: ModelShape, adaptation: Adaptation) -> Moved:
    """Which of the base's own weights an adaptation moves.

    Raises:
        BadValue: More last layers than the model has, or patterns that match nothing.
    """
    match adaptation:
        case Full():
            everything = frozenset(block_tensors(shape))
            return Moved({everything: shape.layers}, parameters(shape), True, True, True)
        case LastLayers(layers=layers):
            return _last(shape, layers)
        case Named():
            return _named(shape, adaptation)
        case Lora() | Bottleneck() | Prefix() | PTuning() | PromptTuning() | Ia3():
            return Moved({frozenset(): shape.layers}, 0)
        case _:
            assert_never(adaptation)


def _last(shape: ModelShape, layers: int) -> Moved:
    if layers > shape.layers:
        raise BadValue(
            N_("the last {layers} layers cannot be trained: {model} has {have}"),
            remedy=N_("choose at most {have}"),
            layers=layers,
            model=shape.name,
            have=shape.layers,
        )
    head = not shape.tied
    weights = layers * block_parameters(shape) + shape.hidden + (head_weights(shape) if head else 0)
    return Moved({frozenset(block_tensors(shape)): layers}, weights, head=head, final_norm=True)


def _named(shape: ModelShape, named: Named) -> Moved:
    """The gradient passes through every block above the first weight that moves; the embedding is below them all."""
    matches = re.compile("|".join(translate(pattern) for pattern in named.patterns)).match
    sizes, found = block_tensors(shape), []
    for layer in range(shape.layers):
        found.append(frozenset(name for name in sizes if matches(f"model.layers.{layer}.{name}")))
    embedding = bool(matches("model.embed_tokens.weight"))
    head = bool(matches("lm_head.weight")) or (embedding and bool(shape.tied))
    embedding = embedding or (head and bool(shape.tied))
    norm = bool(matches("model.norm.weight"))
    ends = head_weights(shape) * (int(embedding) + int(head) - int(embedding and bool(shape.tied)))
    weights = sum(sizes[name] for block in found for name in block) + ends + (shape.hidden if norm else 0)
    if not weights:
        raise BadValue(
            N_("no weight of {model} has a name like {patterns}"),
            remedy=N_("give patterns such as model.layers.*.mlp.*"),
            model=shape.name,
            patterns=", ".join(named.patterns)[:200],
        )
    first = 0 if embedding else next((i for i, block in enumerate(found) if block), shape.layers)
    return Moved(Counter(found[first:]), weights, embedding, head, norm)


def trained_layers(shape: ModelShape, adaptation: Adaptation) -> int:
    """Decoder blocks through which the backward pass goes."""
    return moved(shape, adaptation).layers


def trains_head(shape: ModelShape, adaptation: Adaptation) -> bool:
    """Whether the output matrix moves; the last layers take it along only where it is not also the embedding."""
    return moved(shape, adaptation).head


@cache
def added_parameters(shape: ModelShape, adaptation: Adaptation) -> int:
    """Parameters that an adaptation adds to the frozen model."""
    hidden = shape.hidden
    match adaptation:
        case Full() | LastLayers() | Named():
            return 0
        case Lora():
            return adapter_parameters(shape, adaptation)
        case Bottleneck(width=width):
            each = 2 * hidden * width + width + hidden
            return shape.layers * each * (2 if adaptation.placement == "houlsby" else 1)
        case Prefix(virtual_tokens=tokens):
            return tokens * 2 * shape.keys * shape.layers
        case PTuning(virtual_tokens=tokens, encoder_width=width):
            return tokens * hidden + 2 * hidden * width + width * width + 2 * width + hidden
        case PromptTuning(virtual_tokens=tokens):
            return tokens * hidden
        case Ia3():
            return shape.layers * (2 * shape.keys + (0 if shape.moe else shape.mlp))
        case _:
            assert_never(adaptation)


def trained_parameters(shape: ModelShape, adaptation: Adaptation) -> int:
    """Parameters that move: of the base, or added to it."""
    return moved(shape, adaptation).weights + added_parameters(shape, adaptation)


@cache
def largest_trained(shape: ModelShape, adaptation: Adaptation) -> int:
    """Weights of the largest tensor that moves."""
    found, sizes = moved(shape, adaptation), block_tensors(shape)
    ends = head_weights(shape) if found.head or found.embedding else 0
    own = max((sizes[name] for block in found.blocks for name in block if name != "mlp.experts"), default=0)
    experts = shape.moe.experts * 2 * shape.hidden * shape.moe.mlp if shape.moe and own else 0
    return max(ends, own, experts, _largest_added(shape, adaptation))


def _largest_added(shape: ModelShape, adaptation: Adaptation) -> int:
    match adaptation:
        case Lora(rank=rank):
            return max(rank * max(one.inputs, one.outputs) for one in adapted(shape, adaptation.targets))
        case Bottleneck(width=width):
            return width * shape.hidden
        case _:
            return added_parameters(shape, adaptation)


def virtual_tokens(adaptation: Adaptation) -> int:
    """Learned positions that every document gets in front and that pass through all blocks."""
    return adaptation.virtual_tokens if isinstance(adaptation, PTuning | PromptTuning) else 0
