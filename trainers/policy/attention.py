"""Attention over packed rows: documents in one flat row see themselves only, and no mask is ever built.

FlashAttention's variable-length kernel from torch on CUDA; elsewhere, and in deterministic mode,
`scaled_dot_product_attention`, document by document. Letters of shapes: T tokens, H heads, K key and value heads, D
head size.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
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


_VARLEN: Final = _kernel()
_SPELLS: Final = frozenset(inspect.signature(_VARLEN).parameters if _VARLEN else ())
"""What this torch's kernel can be told; read from the signature, not from a version."""


def _options(window: int | None, spells: AbstractSet[str] = _SPELLS) -> dict[str, object]:
    """Causal, a window of so many tokens, and heads that share keys, as the kernel spells them."""
    back = -1 if window is None else window - 1  # the kernel counts the tokens before this one
    causal = {"window_size": (back, 0)} if "window_size" in spells else {"is_causal": True}
    return {**causal, **({"enable_gqa": True} if "enable_gqa" in spells else {})}


@torch.compiler.disable  # type: ignore[untyped-decorator]  # compiled, each row would be another program
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
    spans: Iterable[tuple[int, int]],
    prefix: Sequence[tuple[Tensor, Tensor]] | None = None,
    key_index: Tensor | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **_: object,  # whatever else a model hands to its attention
) -> tuple[Tensor, None]:
    """Attend within each document.

    Args:
        module: The attention layer; its number finds its prefix.
        query: [1, H, T, D].
        key: [1, K, T, D].
        value: [1, K, T, D].
        attention_mask: Always None: this function is registered without a mask function.
        scaling: Factor of the scores; None for 1/sqrt(D).
        dropout: Share of the weights that is dropped; the kernel has none, so the plain path draws it.
        cu_seq_lens_q: Where documents begin and end, int32 on the device; for the kernel.
        cu_seq_lens_k: The same, of the keys: with a prefix each document has more of them.
        max_length_q: Length of the longest document.
        max_length_k: Length of its keys.
        spans: (start, stop) of each document; for the plain path.
        prefix: Learned keys and values of each layer, [1, K, v, D], that every document sees before its own.
        key_index: Where in prefix and row, end to end, the keys of each document are; for the kernel.
        sliding_window: How many tokens a token sees, itself included; None for all before it.
        softcap: Refused.
        s_aux: Attention sinks; refused.
        position_bias: Refused.

    Returns:
        [1, T, H, D], and no weights.

    Raises:
        NotImplementedError: The model wants what a packed row does not have; it is never ignored.
        TypeError: Without the keyword arguments: padded batches and generation belong to "sdpa".
    """
    if any(wish is not None for wish in (attention_mask, softcap, s_aux, position_bias)):
        raise NotImplementedError("packed attention has no mask, soft cap, sink or bias")
    window = sliding_window if sliding_window is not None and sliding_window < max_length_k else None
    if _VARLEN is not None and _suits_kernel(query, dropout, window):
        if prefix is not None and key_index is not None:
            both = zip(prefix[_number(module)], (key, value), strict=True)
            key, value = (torch.cat(pair, 2).index_select(2, key_index) for pair in both)
        q_THD, k_TKD, v_TKD = (x[0].transpose(0, 1) for x in (query, key, value))
        lengths = (cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k)
        return _VARLEN(q_THD, k_TKD, v_TKD, *lengths, scale=scaling, **_options(window))[None], None
    before: Sequence[Tensor] = () if prefix is None else prefix[_number(module)]
    if query.is_cuda and query.shape[1] != key.shape[1]:
        # on CUDA only 16-bit kernels share heads: fp32 would fall to the one that keeps all scores
        groups = query.shape[1] // key.shape[1]
        key, value, *before = (x.repeat_interleave(groups, 1) for x in (key, value, *before))
    documents = [_of_document((query, key, value), span, before) for span in spans]
    one_by_one = [_document(*qkv, scaling=scaling, dropout=dropout, window=window) for qkv in documents]
    return torch.cat(one_by_one, 2).transpose(1, 2), None


def _suits_kernel(query: Tensor, dropout: float, window: int | None) -> bool:
    """Whether the kernel does what is asked; its backward adds up in any order, so not where bits have to stay."""
    whole = not dropout and (window is None or "window_size" in _SPELLS)
    any_order = not torch.are_deterministic_algorithms_enabled()
    return whole and any_order and query.is_cuda and query.dtype in _SIXTEEN_BIT


def _number(attention: nn.Module) -> int:
    """Which layer's attention this is; transformers numbers them for its caches."""
    found: int = attention.layer_idx  # type: ignore[assignment]  # torch types attributes as modules
    return found


def _of_document(row: Sequence[Tensor], span: tuple[int, int], before: Sequence[Tensor]) -> list[Tensor]:
    """Query, key and value of one document; learned keys and values, if there are any, stand before its own."""
    query, *own = (x[:, :, span[0] : span[1]] for x in row)
    if not before:
        return [query, *own]
    return [query, *(torch.cat(pair, 2) for pair in zip(before, own, strict=True))]


def _document(
    q: Tensor, k: Tensor, v: Tensor, *, scaling: float | None, dropout: float, window: int | None
) -> Tensor:
    tokens, keys, shared = q.shape[2], k.shape[2], q.shape[1] != k.shape[1]
    seen = None  # a mask only where a prefix stands before this document, or a window cuts it
    if keys > tokens or (window is not None and window < tokens):
        seen = torch.ones(tokens, keys, dtype=torch.bool, device=q.device).tril(keys - tokens)
        seen = seen if window is None else seen.triu(keys - tokens + 1 - window)
    return F.scaled_dot_product_attention(
        q, k, v, seen, dropout, is_causal=seen is None, scale=scaling, enable_gqa=shared
    )


AttentionInterface.register(PACKED, packed)  # and no mask function: then transformers builds no mask
