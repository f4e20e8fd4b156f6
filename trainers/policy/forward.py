"""From a flat row to its loss: over packed attention and the chunked head where a probe proves them right.

Letters of shapes: T tokens, N positions that predict a trained token, H hidden, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from trainers.loop import Batch
from trainers.policy.attention import PACKED
from trainers.policy.head import weighted_nll

PROBE_LENGTHS: Final = (5, 7)
"""Two documents: whatever mixes tokens outside attention leaks from the first into the second."""
PROBE_ERROR: Final = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}
"""Largest relative error of the logits that rounding alone explains; a leak or a missed scale is far beyond."""

Nll = Callable[[PreTrainedModel, Batch], Tensor]
"""A causal model and a row to the summed negative log-likelihood of its trained tokens, in nats."""


def packed_nll(causal: PreTrainedModel, batch: Batch) -> Tensor:
    """All documents in one forward, logits for trained tokens only; wants `packed_rows`."""
    hidden_NH = _hidden(causal, batch).index_select(0, batch.index_N)
    return weighted_nll(hidden_NH, _head(causal).to(hidden_NH.dtype), batch.target_N)


def stock_nll(causal: PreTrainedModel, batch: Batch) -> Tensor:
    """Document by document through the model's own forward: right for every architecture, and slower."""
    total = torch.zeros((), device=batch.ids_1T.device)
    for (start, stop), logits in zip(batch.spans, _logits(causal, batch), strict=True):
        inside = (batch.index_N >= start) & (batch.index_N < stop)
        chosen = logits.index_select(0, batch.index_N[inside] - start).float()
        total = total + F.cross_entropy(chosen, batch.target_N[inside], reduction="sum")
    return total


@dataclass(frozen=True, slots=True)
class Path:
    """How rows go through a model; `why` is empty where the fast way is right."""

    nll: Nll
    why: str = ""


def choose(causal: PreTrainedModel) -> Path:
    """Take the fast way if it gives the logits of the model's own forward, else the model's own forward."""
    wanted = PROBE_ERROR.get(causal.dtype, max(PROBE_ERROR.values()))
    try:
        error = _probe(causal)
    except (NotImplementedError, AttributeError, TypeError, ValueError, RuntimeError) as reason:
        return Path(stock_nll, f"{type(reason).__name__}: {reason}"[:200])
    return (
        Path(packed_nll) if error <= wanted else Path(stock_nll, f"relative error {error:.2g} > {wanted:g}")
    )


@contextmanager
def packed_rows(causal: PreTrainedModel) -> Iterator[None]:
    """Attend within documents inside; padded batches and generation have their own attention outside."""
    before = causal.config._attn_implementation
    causal.set_attn_implementation(PACKED)
    try:
        yield
    finally:
        causal.set_attn_implementation(before)


@torch.no_grad()
def _probe(causal: PreTrainedModel) -> float:
    """Relative error of the fast way's logits over two short documents."""
    batch = _two_documents(causal)
    own_TV = torch.cat(list(_logits(causal, batch))).float()
    with packed_rows(causal):
        weight_VH = _head(causal)
        fast_TV = F.linear(_hidden(causal, batch).to(weight_VH.dtype), weight_VH).float()
    return float((fast_TV - own_TV).norm() / own_TV.norm())


def _two_documents(causal: PreTrainedModel) -> Batch:
    device = _head(causal).device
    first, second = PROBE_LENGTHS
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(causal.config.vocab_size, (1, first + second), generator=generator).to(device)
    positions = torch.tensor([[*range(first), *range(second)]], device=device)
    ends = torch.tensor([0, first, first + second], dtype=torch.int32, device=device)
    spans = ((0, first), (first, first + second))
    lengths = {"max_length_q": second, "max_length_k": second}
    attention = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "spans": spans, **lengths}
    nothing = torch.empty(0, dtype=torch.long, device=device)
    return Batch(ids, positions, nothing, nothing, spans, attention, ())


def _head(causal: PreTrainedModel) -> Tensor:
    """The output embeddings [V, H]."""
    weight: Tensor = causal.get_output_embeddings().weight  # type: ignore[no-untyped-call]  # not annotated
    return weight


def _hidden(causal: PreTrainedModel, batch: Batch) -> Tensor:
    """The hidden states [T, H] of a packed row, after the final norm."""
    out = causal.base_model(
        input_ids=batch.ids_1T, position_ids=batch.positions_1T, use_cache=False, **batch.attention
    )
    hidden_TH: Tensor = out.last_hidden_state[0]
    return hidden_TH


def _logits(causal: PreTrainedModel, batch: Batch) -> Iterator[Tensor]:
    """The model's own logits of each document, [its length, V]."""
    for start, stop in batch.spans:
        yield causal(input_ids=batch.ids_1T[:, start:stop], use_cache=False).logits[0]
