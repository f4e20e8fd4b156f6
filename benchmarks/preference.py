"""Direct preference optimisation (Rafailov et al., 2023) on the trainer's own pieces, so that its memory can be measured.

A pair is two documents of a packed row, each with its prompt: the chosen one, then the rejected one. Policy, adapters,
functions, packed attention, loop and optimizer are the trainer's; here are the loss, the head that gives the
log-probability of each token, and the reference. The trainer itself has no such objective yet.

Letters of shapes: N positions that predict a trained token, H hidden, V vocabulary, D documents, B pairs.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from peft import PeftModel
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from trainers.loop import Batch, Group, Loss, Objective
from trainers.policy import Policy
from trainers.policy.forward import _hidden, packed_rows
from trainers.policy.head import CHUNK_ROWS, _residual

Reference = Literal["copy", "adapter_off", "precomputed"]
"""Where the log-probabilities of the model before training come from: a second model, the model without its adapter,
or a file."""
BETA = 0.1

LogProbs = Callable[[Batch], Tensor]
"""A row to the log-probability of the trained tokens of each document, [D] in nats, fp32."""


def dpo(reference: Reference, beta: float = BETA) -> Callable[[Policy], Objective]:
    """The objective, for the policy that will be adapted; its loss counts pairs."""

    def of(policy: Policy) -> Objective:
        before = _REFERENCES[reference](policy)

        def objective(batch: Batch) -> Loss:
            with torch.no_grad():
                reference_D = before(batch)
            rewards_D = beta * (documents(policy.causal, batch) - reference_D)
            chosen_B, rejected_B = rewards_D.view(-1, 2).unbind(1)
            return Loss(-F.logsigmoid(chosen_B - rejected_B).sum(), len(chosen_B))

        return objective

    return of


def in_pairs(group: Group) -> Group:
    """A step of documents that come in pairs, counted in pairs."""
    return replace(group, count=sum(len(batch.spans) for batch in group.batches) // 2)


def documents(causal: PreTrainedModel, batch: Batch) -> Tensor:
    """The log-probability of the trained tokens of each document, [D] in nats, fp32; wants `packed_rows`."""
    hidden_NH = _hidden(causal, batch).index_select(0, batch.index_N)
    weight_VH = cast(Tensor, causal.get_output_embeddings().weight)
    logp_N = label_logprobs(hidden_NH, weight_VH.to(hidden_NH.dtype), batch.target_N)
    return torch.stack([part.sum() for part in logp_N.split([b - a for a, b in pairwise(batch.cuts)])])


# --- the reference ---


def _copied(policy: Policy) -> LogProbs:
    """A second model, frozen, as the first one is now."""
    second = copy.deepcopy(policy.causal).requires_grad_(False).eval()

    def before(batch: Batch) -> Tensor:
        with packed_rows(second):
            return documents(second, batch)

    return before


def _adapter_off(policy: Policy) -> LogProbs:
    """The same model without its adapter; dropout lives in adapters only."""
    model = cast(PeftModel, policy.model)

    def before(batch: Batch) -> Tensor:
        with model.disable_adapter():
            return documents(policy.causal, batch)

    return before


def _precomputed(policy: Policy) -> LogProbs:
    """Numbers that were worked out before; here those of a model that finds all documents alike."""
    return lambda batch: torch.zeros(len(batch.spans), device=policy.device)


_REFERENCES = {"copy": _copied, "adapter_off": _adapter_off, "precomputed": _precomputed}


# --- the head ---


def label_logprobs(hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor, rows: int = CHUNK_ROWS) -> Tensor:
    """Log-probabilities of tokens, [N] in nats, fp32; never more logits than `rows` positions have.

    Rows are independent, so what comes from above only scales their gradients: of the hidden states they are made in
    the forward. The gradient of a weight that moves waits until that scale is known, and the logits are made again.
    """
    return cast(Tensor, _LabelLogprobs.apply(hidden_NH, weight_VH, target_N, rows))


class _LabelLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(  # torch gives `ctx` no type that knows what is kept on it
        ctx: Any,  # noqa: ANN401
        h_NH: Tensor,
        w_VH: Tensor,
        target_N: Tensor,
        rows: int,
    ) -> Tensor:
        need_h, need_w = ctx.needs_input_grad[:2]
        logp_N = torch.empty(len(h_NH), dtype=torch.float32, device=h_NH.device)
        dh_NH = torch.empty_like(h_NH) if need_h and not need_w else None
        for start in range(0, len(h_NH), rows):
            chunk = slice(start, start + rows)
            logp_N[chunk], residual_RV = _residual((h_NH[chunk] @ w_VH.t()).float(), target_N[chunk])
            if dh_NH is not None:
                torch.mm(residual_RV.to(w_VH.dtype), w_VH, out=dh_NH[chunk])
            del residual_RV  # or it lives while the next chunk's logits are made
        ctx.save_for_backward(*((h_NH, w_VH, target_N) if need_w else (dh_NH,)))
        ctx.rows, ctx.need_h = rows, need_h
        return logp_N

    @staticmethod
    @once_differentiable
    def backward(  # as above
        ctx: Any,  # noqa: ANN401
        up_N: Tensor,
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        if len(ctx.saved_tensors) == 1:
            (dh_NH,) = ctx.saved_tensors
            return dh_NH * up_N[:, None].to(dh_NH.dtype), None, None, None
        h_NH, w_VH, target_N = ctx.saved_tensors
        dh_NH, dw_VH = (torch.empty_like(h_NH) if ctx.need_h else None), torch.zeros_like(w_VH)
        for start in range(0, len(h_NH), ctx.rows):
            chunk = slice(start, start + ctx.rows)
            _, residual_RV = _residual((h_NH[chunk] @ w_VH.t()).float(), target_N[chunk])
            g_RV = residual_RV.mul_(up_N[chunk, None]).to(w_VH.dtype)
            if dh_NH is not None:
                torch.mm(g_RV, w_VH, out=dh_NH[chunk])
            dw_VH.addmm_(g_RV.t(), h_NH[chunk])
            del residual_RV, g_RV
        return dh_NH, dw_VH, None, None
