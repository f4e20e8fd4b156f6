"""Attention over packed rows: documents in one flat row see themselves only, and no mask is ever built.

FlashAttention's variable-length kernel from torch on CUDA; elsewhere `scaled_dot_product_attention`, document by
document. Letters of shapes: T tokens, H heads, K key and value heads, D head size.
"""

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

PACKED: Final = "packed"
"""The name under which transformers finds it. A name with "flash" in it would be looked up on the hub."""
_SIXTEEN_BIT: Final = (torch.bfloat16, torch.float16)


Kernel = Callable[..., Tensor]


def _kernel() -> Kernel | None:
    """The variable-length kernel, or None in a torch without it: then document by document everywhere."""
    try:
        found: Kernel = import_module("torch.nn.attention.varlen").varlen_attn
    except (ImportError, AttributeError):
        return None
    return found


def _options(kernel: Kernel | None) -> dict[str, object]:
    """How this torch spells causal, and heads that share keys; read from the signature, not from a version."""
    has = set(inspect.signature(kernel).parameters) if kernel else set()
    causal = {"window_size": (-1, 0)} if "window_size" in has else {"is_causal": True}
    return {**causal, **({"enable_gqa": True} if "enable_gqa" in has else {})}


_VARLEN: Final = _kernel()
_VARLEN_OPTIONS: Final = _options(_VARLEN)


def packed(  # the signature is that of transformers' attention functions
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    cu_seq_lens_q: Tensor,
    cu_seq_lens_k: Tensor,
    max_length_q: int,
    max_length_k: int,
    spans: Sequence[tuple[int, int]],
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: object,  # whatever else a model hands to its attention
) -> tuple[Tensor, None]:
    """Attend within each document.

    Args:
        module: The attention layer; not used.
        query: [1, H, T, D].
        key: [1, K, T, D].
        value: [1, K, T, D].
        attention_mask: Always None: this function is registered without a mask function.
        scaling: Factor of the scores; None for 1/sqrt(D).
        dropout: Always 0.
        cu_seq_lens_q: Where documents begin and end, int32 on the device; for the kernel.
        cu_seq_lens_k: The same.
        max_length_q: Length of the longest document.
        max_length_k: The same.
        spans: (start, stop) of each document; for the plain path.
        sliding_window: Refused where a document is longer.
        softcap: Refused.
        s_aux: Attention sinks; refused.

    Returns:
        [1, T, H, D], and no weights.

    Raises:
        NotImplementedError: The model wants what a packed row does not have; it is never ignored.
        TypeError: Without the keyword arguments: padded batches and generation belong to "sdpa".
    """
    if attention_mask is not None or dropout or softcap is not None or s_aux is not None:
        raise NotImplementedError("packed attention has no mask, dropout, soft cap or sink")
    if sliding_window is not None and sliding_window < max_length_k:
        raise NotImplementedError(f"documents of {max_length_k} tokens exceed the window of {sliding_window}")
    if _VARLEN is not None and query.is_cuda and query.dtype in _SIXTEEN_BIT:
        q_THD, k_TKD, v_TKD = (x[0].transpose(0, 1) for x in (query, key, value))
        lengths = (cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k)
        return _VARLEN(q_THD, k_TKD, v_TKD, *lengths, scale=scaling, **_VARLEN_OPTIONS)[None], None
    one_by_one = [_document(query, key, value, scaling, slice(*span)) for span in spans]
    return torch.cat(one_by_one, 2).transpose(1, 2), None


def _document(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, span: slice) -> Tensor:
    q, k, v = (x[:, :, span] for x in (query, key, value))
    shared = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=shared)


AttentionInterface.register(PACKED, packed)  # and no mask function: then transformers builds no mask
