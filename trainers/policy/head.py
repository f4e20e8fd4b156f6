"""The loss head: only positions that predict a trained token, a chunk at a time, never all logits.

The gradient is made in the forward, since d(-w log p) / d logits = w (softmax - onehot) is known there: nothing of
the size of the vocabulary is kept. Letters of shapes: N positions, R rows of a chunk, H hidden, V vocabulary.
"""

from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ROWS: Final = 1024
"""R rows give R FLOP a byte of the head's weight; an H200 needs at least 512 to be busy (its ridge is 184)."""


def weighted_nll(hidden_NH: Tensor, weight_VH: Tensor, target_N: Tensor, *, rows: int = CHUNK_ROWS) -> Tensor:
    """The summed negative log-likelihood in nats, fp32; differentiable in the hidden states and the weight.

    Args:
        hidden_NH: Hidden states where a trained token is predicted.
        weight_VH: The output embeddings, in the dtype of the hidden states.
        target_N: The tokens, int64.
        rows: How many positions have logits at one time.
    """
    total: Tensor = _WeightedNll.apply(hidden_NH, weight_VH, target_N, rows)  # type: ignore[no-untyped-call]  # torch
    return total


class _WeightedNll(torch.autograd.Function):
    @staticmethod
    def forward(  # torch gives `ctx` no type that knows what is kept on it
        ctx: Any,  # noqa: ANN401
        h_NH: Tensor,
        w_VH: Tensor,
        target_N: Tensor,
        rows: int,
    ) -> Tensor:
        need_h, need_w = ctx.needs_input_grad[:2]
        total = torch.zeros((), dtype=torch.float32, device=h_NH.device)
        dh_NH = torch.empty_like(h_NH) if need_h else None
        dw_VH = torch.zeros_like(w_VH) if need_w else None  # one buffer; in bf16 it rounds once a chunk
        for start in range(0, len(h_NH), rows):
            chunk = slice(start, start + rows)
            logp_R, residual_RV = _residual((h_NH[chunk] @ w_VH.t()).float(), target_N[chunk])
            total -= logp_R.sum()
            g_RV = residual_RV.neg_().to(w_VH.dtype)
            if dh_NH is not None:
                torch.mm(g_RV, w_VH, out=dh_NH[chunk])
            if dw_VH is not None:
                dw_VH.addmm_(g_RV.t(), h_NH[chunk])
            del residual_RV, g_RV  # or they live while the next chunk's logits are made
        ctx.save_for_backward(dh_NH, dw_VH)
        return total

    @staticmethod
    @once_differentiable
    def backward(  # as above
        ctx: Any,  # noqa: ANN401
        up: Tensor,
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        dh_NH, dw_VH = (None if g is None else g * up.to(g.dtype) for g in ctx.saved_tensors)
        return dh_NH, dw_VH, None, None


def _residual(logits_RV: Tensor, target_R: Tensor) -> tuple[Tensor, Tensor]:
    """Log p of the targets [R], and d log p / d logits = onehot - softmax, written over the fp32 logits."""
    lse_R1 = logits_RV.logsumexp(-1, keepdim=True)
    logp_R = (logits_RV.gather(1, target_R[:, None]) - lse_R1)[:, 0]
    logits_RV.sub_(lse_R1).exp_().neg_()
    return logp_R, logits_RV.scatter_add_(1, target_R[:, None], torch.ones_like(lse_R1))
