"""From a flat row to its loss: over packed attention and the chunked head where a probe proves them right.

Letters of shapes: T tokens, N positions that predict a trained token, H hidden, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from trainers.loop import Batch
from trainers.policy.attention import PACKED
from trainers.policy.head import weighted_nll

PROBE_LENGTHS: Final = (5, 7)
"""Two documents: whatever mixes tokens outside attention leaks from the first into the second."""
LOUD: Final = 100.0
"""A logit beyond every cap in use (30, 50): a quiet probe lies where a cap is still nearly a straight line."""
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
    trained = [slice(a, b) for a, b in pairwise(batch.cuts)]
    for (start, _), inside, logits in zip(batch.spans, trained, _logits(causal, batch), strict=True):
        chosen = logits.index_select(0, batch.index_N[inside] - start).float()
        total = total + F.cross_entropy(chosen, batch.target_N[inside], reduction="sum")
    return total


@dataclass(frozen=True, slots=True)
class Path:
    """How rows go through a model; `why` is empty where the fast way is right."""

    nll: Nll
    why: str = ""


def choose(causal: PreTrainedModel, longest: int = 0) -> Path:
    """Take the fast way if it gives what the model's own forward gives, else the model's own forward.

    Args:
        causal: Any causal language model.
        longest: Tokens of the longest document there will be.

    Raises:
        torch.OutOfMemoryError: There is no room for one document.
    """
    wanted = PROBE_ERROR.get(causal.dtype, max(PROBE_ERROR.values()))
    was = causal.training
    causal.train(False)  # dropout would make any two forwards differ
    try:
        for probe in PROBES:
            error = probe(causal, longest)
            if not error <= wanted:  # what is not a number is not right either
                return Path(
                    stock_nll, f"{probe.__name__.strip('_')}: relative error {error:.2g} > {wanted:g}"
                )
    except torch.OutOfMemoryError:
        raise
    except (LookupError, NotImplementedError, AttributeError, TypeError, ValueError, RuntimeError) as reason:
        return Path(stock_nll, f"{type(reason).__name__}: {reason}"[:200])
    finally:
        causal.train(was)
    return Path(packed_nll)


@contextmanager
def as_trained(causal: PreTrainedModel, nll: Nll) -> Iterator[None]:
    """The attention that `nll` wants. It lasts for a whole training: recomputed activations need it in the backward."""
    if nll is not packed_nll:
        yield
        return
    with packed_rows(causal):
        yield


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
def _logits_of_short_documents(causal: PreTrainedModel, _: int) -> float:
    """From tokens to logits: documents that leak, logits that are scaled."""
    batch = _two_documents(causal, *PROBE_LENGTHS)
    own = list(_logits(causal, batch))
    with packed_rows(causal):
        weight_VH = _head(causal)
        fast_TV = F.linear(_hidden(causal, batch).to(weight_VH.dtype), weight_VH)
    return _apart(fast_TV, own, batch)


@torch.no_grad()
def _loud_logits(causal: PreTrainedModel, _: int) -> float:
    """The head alone, on hidden states so large that a capped logit is far from the plain one."""
    batch = _two_documents(causal, *PROBE_LENGTHS)
    weight_VH = _head(causal)
    loud: list[Tensor] = []

    def louder(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden_BTH, *rest = given
        hidden_BTH = hidden_BTH * (LOUD / float(F.linear(hidden_BTH, weight_VH).abs().max()))
        loud.append(hidden_BTH[0])
        return hidden_BTH, *rest

    hook = _output(causal).register_forward_pre_hook(louder)
    try:
        own = list(_logits(causal, batch))
    finally:
        hook.remove()
    return _apart(F.linear(torch.cat(loud), weight_VH), own, batch)


@torch.no_grad()
def _hidden_states_of_a_long_document(causal: PreTrainedModel, longest: int) -> float:
    """The body at full length: windows, chunks and stretched positions do nothing in a short document."""
    first, second = PROBE_LENGTHS
    if longest <= second:
        return 0.0
    batch = _two_documents(causal, first, longest)
    own = [
        causal.base_model(input_ids=batch.ids_1T[:, a:b], use_cache=False).last_hidden_state[0]
        for a, b in batch.spans
    ]
    with packed_rows(causal):
        return _apart(_hidden(causal, batch), own, batch)


PROBES: Final = (_logits_of_short_documents, _loud_logits, _hidden_states_of_a_long_document)
"""Each gives the relative error of the fast way; the first too large one decides."""


def _apart(fast_TX: Tensor, own: Sequence[Tensor], batch: Batch) -> float:
    """The largest relative error of a document: a short one must not hide behind a long one."""
    pairs = [(fast_TX[a:b].float(), mine.float()) for (a, b), mine in zip(batch.spans, own, strict=True)]
    errors = torch.stack([(fast - mine).norm() / mine.norm() for fast, mine in pairs])
    return float(errors.max())  # NaN if one of them is


def _two_documents(causal: PreTrainedModel, first: int, second: int) -> Batch:
    embeddings: nn.Embedding = causal.get_input_embeddings()  # type: ignore[assignment]  # of words, so it is one
    device = embeddings.weight.device
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(embeddings.num_embeddings, (1, first + second), generator=generator).to(device)
    positions = torch.tensor([[*range(first), *range(second)]], device=device)
    ends = torch.tensor([0, first, first + second], dtype=torch.int32, device=device)
    spans = ((0, first), (first, first + second))
    lengths = {"max_length_q": second, "max_length_k": second}
    attention = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "spans": spans, **lengths}
    nothing = torch.empty(0, dtype=torch.long, device=device)
    return Batch(ids, positions, nothing, nothing, spans, (0, 0, 0), attention, ())


def plain_head(causal: PreTrainedModel) -> bool:
    """Whether nothing stands on the head that its weight does not say; the chunked head reads the weight alone."""
    head: nn.Module | None = causal.get_output_embeddings()  # type: ignore[no-untyped-call]  # not annotated
    return not isinstance(head, BaseTunerLayer)


def _head(causal: PreTrainedModel) -> Tensor:
    """The output embeddings [V, H]."""
    head = _output(causal)
    if head.bias is not None:
        raise NotImplementedError("the head has a bias")
    return head.weight


def _output(causal: PreTrainedModel) -> nn.Linear:
    head: nn.Linear = causal.get_output_embeddings()  # type: ignore[no-untyped-call]  # not annotated
    return head


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
