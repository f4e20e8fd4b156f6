"""Memory that a CUDA operation takes for itself and gives back before it returns: no tensor shows it.

One function for each operation where that is large, read in the source of torch 2.13. Letters of shapes: T tokens,
H heads, K key and value heads, D head size, N documents.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from torch import Tensor

FP32: Final = 4
PAD_HEAD: Final = 32
"""FlashAttention rounds a head's size up to it (`round_multiple(head_size, head_size <= 128 ? 32 : 64)`)."""
PAD_WIDE_HEAD: Final = 64
WIDE_HEAD: Final = 128
PAD_TOKENS: Final = 128
"""Rows that FlashAttention adds for each document in what it keeps by document."""

Scratch = Callable[..., tuple[int, ...]]
"""An operation's arguments to the bytes of each piece that it takes."""


def _logsumexp(x: Tensor, *_: object) -> tuple[int, ...]:
    """`exp(x - max)` of the whole input (`logsumexp_out_impl`, aten/src/ATen/native/ReduceOps.cpp)."""
    return (x.numel() * x.element_size(),)


def _flash_backward(_: Tensor, q_THD: Tensor, k_TKD: Tensor, *more: Any) -> tuple[int, ...]:  # noqa: ANN401  (the operation's)
    """`mha_varlen_bwd` (aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp).

    Sums of the softmax's gradient and dQ in fp32, and dK and dV for each head before shared ones are added up.
    """
    tokens, heads, size = q_THD.shape
    offsets: Tensor = more[3]
    rows = tokens + PAD_TOKENS * (offsets.shape[0] - 1)
    pad = PAD_HEAD if size <= WIDE_HEAD else PAD_WIDE_HEAD
    sums, dq = heads * rows * FP32, rows * heads * (-(-size // pad) * pad) * FP32
    keys, shared = k_TKD.shape[:2]
    expanded = keys * heads * size * k_TKD.element_size() if shared != heads else 0
    return tuple(part for part in (sums, dq, expanded, expanded) if part)


SCRATCH: Final[Mapping[str, Scratch]] = MappingProxyType(
    {"aten::logsumexp": _logsumexp, "torch_attn::_varlen_attn_backward": _flash_backward}
)
"""By the operation's name."""
