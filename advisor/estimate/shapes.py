"""Counting weights: the linear layers of a decoder block, all parameters, and what a method trains."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from advisor.catalog.models import ModelShape, Moe
from advisor.errors import BadValue
from recipes.plan import Adaptation, Full, LastLayers, Lora
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
        case _:
            return 2 * hidden


def embedding_weights(shape: ModelShape) -> int:
    """Weights of the embedding, and of the head where it is not known to be the same matrix."""
    return shape.vocabulary * shape.hidden * (1 if shape.tied else 2)


def block_parameters(shape: ModelShape) -> int:
    """Parameters of one decoder block."""
    bias = shape.queries + 2 * shape.keys if shape.qkv_bias else 0
    experts = _experts(shape, shape.moe) if shape.moe else 0
    return sum(layer.weights for layer in linears(shape)) + experts + bias + _norms(shape)


def parameters(shape: ModelShape) -> int:
    """All parameters of the language model, computed from its dimensions."""
    return embedding_weights(shape) + shape.layers * block_parameters(shape) + shape.hidden


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
    """Parameters of all adapters: rank x (inputs + outputs) for each adapted layer (Hu et al., 2021)."""
    widths = sum(layer.inputs + layer.outputs for layer in adapted(shape, lora.targets))
    return shape.layers * lora.rank * widths


def trained_layers(shape: ModelShape, adaptation: Adaptation) -> int:
    """Decoder blocks through which the backward pass goes.

    Raises:
        BadValue: More last layers than the model has.
    """
    match adaptation:
        case Full() | Lora():
            return shape.layers
        case LastLayers(layers=layers):
            if layers > shape.layers:
                raise BadValue(
                    N_("the last {layers} layers cannot be trained: {model} has {have}"),
                    remedy=N_("choose at most {have}"),
                    layers=layers,
                    model=shape.name,
                    have=shape.layers,
                )
            return layers
        case _:
            raise BadValue(
                N_("there is no estimate for {kind} yet"),
                remedy=N_("choose another adaptation"),
                kind=adaptation.kind,
            )


def trains_head(shape: ModelShape, adaptation: Adaptation) -> bool:
    """Whether the output matrix moves; the last layers take it along only where it is not also the embedding."""
    match adaptation:
        case Full():
            return True
        case LastLayers():
            return not shape.tied
        case Lora():
            return False
        case _:
            raise BadValue(
                N_("there is no estimate for {kind} yet"),
                remedy=N_("choose another adaptation"),
                kind=adaptation.kind,
            )


def trained_parameters(shape: ModelShape, adaptation: Adaptation) -> int:
    """Parameters that move."""
    match adaptation:
        case Full():
            return parameters(shape)
        case LastLayers():
            layers = trained_layers(shape, adaptation)
            head = head_weights(shape) if trains_head(shape, adaptation) else 0
            return layers * block_parameters(shape) + shape.hidden + head
        case Lora():
            return adapter_parameters(shape, adaptation)
        case _:
            raise BadValue(
                N_("there is no estimate for {kind} yet"),
                remedy=N_("choose another adaptation"),
                kind=adaptation.kind,
            )
