"""The `config.json` of a model of which only the dimensions are known, as transformers reads it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from advisor.catalog.models import ModelShape
from advisor.errors import AdvisorError
from recipes.exits import Exit
from recipes.words import N_

MODEL_TYPE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "llama": "llama",
        "qwen3": "qwen3",
        "olmo2": "olmo2",
        "phi3": "phi3",
        "glm4": "glm4",
        "gemma": "gemma",
        "gemma3": "gemma3_text",
    }
)
"""An architecture of transformers with this decoder block."""
EXPERTS: Final[Mapping[str, str]] = MappingProxyType({"llama": "mixtral", "qwen3": "qwen3_moe"})
"""The same with a mixture of experts."""
CONTEXT: Final = 2**20
"""Positions where the catalogue names none: no table grows with them in these architectures."""


class NoConfig(AdvisorError):
    """A model whose configuration cannot be made from what the catalogue knows."""

    exit_code = Exit.USAGE
    code = "E0103"


def config(shape: ModelShape) -> dict[str, object]:
    """The keys of a `config.json` that gives tensors of the same shapes as the model itself.

    Raises:
        NoConfig: The block or a dimension is not known, or only some layers have experts.
    """
    sizes = (
        shape.layers,
        shape.hidden,
        shape.heads,
        shape.kv_heads,
        shape.head_width,
        shape.mlp,
        shape.vocabulary,
    )
    known = MODEL_TYPE if shape.moe is None else EXPERTS
    uneven = shape.moe is not None and (shape.moe.shared or shape.moe.first_dense)
    if shape.block not in known or not all(sizes) or uneven:
        raise NoConfig(
            N_("the catalogue does not know enough of {model} to run it dry"),
            remedy=N_("download its config.json, and name its directory as the recipe's model"),
            model=shape.name,
        )
    return {
        "model_type": _type(shape),
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "intermediate_size": shape.mlp,
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": bool(shape.tied),
        "max_position_embeddings": shape.context or CONTEXT,
        "pad_token_id": None,
        **_experts(shape),
    }


def _type(shape: ModelShape) -> str:
    if shape.moe is not None:
        return EXPERTS[shape.block]
    if shape.block == "llama" and shape.qkv_bias:
        return "qwen2"  # the same block with a bias on queries, keys and values
    return MODEL_TYPE[shape.block]


def _experts(shape: ModelShape) -> dict[str, object]:
    if shape.moe is None:
        return {}
    count = "num_local_experts" if shape.block == "llama" else "num_experts"
    width = {"intermediate_size": shape.moe.mlp, "moe_intermediate_size": shape.moe.mlp}
    return {count: shape.moe.experts, "num_experts_per_tok": shape.moe.active, **width}
