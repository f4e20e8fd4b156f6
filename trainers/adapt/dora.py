"""DoRA (Liu et al., 2024) without the product B A: the norm of each row of W + s B A from small matrices alone.

    norm^2 = W2 + 2 s (B * (W A^T)).sum(1) + s^2 ((B (A A^T)) * B).sum(1)        W2 = (W * W).sum(1), made once

peft builds B A and the sum with W, both as large as W, in every forward. It goes on making, saving and merging the
adapter. The norm is a constant in the backward, as section 4.3 of the paper says.

Letters of shapes: T tokens, I inputs, O outputs, r rank.
"""

from functools import cache
from typing import Any, Final

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import LoraLayer
from peft.tuners.lora.variants import DoraLinearVariant
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn

from trainers.adapt.lora import COVERED

SQUARES: Final = "_squares_of_rows"
"""Where a layer keeps W2; not a buffer, so no state dictionary knows it."""
TINY: Final = torch.finfo(torch.float32).tiny
"""A row that adapter and base cancel has no direction, and must not divide by zero."""
ROWS: Final = 1024
"""Rows of W that are lifted to fp32 at one time."""


def install(model: nn.Module) -> int:
    """Give the DoRA layers of `model` our forward; how many there were."""
    found = [m for m in model.modules() if isinstance(m, LoraLayer) and _is_dora(m)]
    for module in found:
        module.__class__ = _factored(type(module))
    return len(found)


def _is_dora(layer: LoraLayer) -> bool:
    variants = layer.lora_variant.values()
    return type(layer).__name__ in COVERED and any(isinstance(one, DoraLinearVariant) for one in variants)


class Factored:
    """In front of a DoRA layer of peft: our forward where it applies, peft's where it does not."""

    def forward(self: Any, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """The row-wise m / norm(W + s B A) * (W + s B A) x, in the dtype of `x`."""
        name = None if args or kwargs else _plain(self)
        if name is None:
            stock: Tensor = super().forward(x, *args, **kwargs)  # type: ignore[misc]  # the peft class behind
            return stock
        a_rI, b_Or, s = self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]
        norm_O = row_norms(self.base_layer, a_rI, b_Or, s, _squares(self))
        factor_O = (self.lora_magnitude_vector[name].weight / norm_O).to(x.dtype)
        bias = self.base_layer.bias
        y = self.base_layer(x) if bias is None else self.base_layer(x) - bias.to(x.dtype)
        y = y + s * F.linear(F.linear(x, a_rI.to(x.dtype)), b_Or.to(x.dtype))
        y = factor_O * y
        whole: Tensor = y if bias is None else y + bias.to(x.dtype)
        return whole


@torch.no_grad()
def row_norms(base: nn.Linear, a_rI: Tensor, b_Or: Tensor, scale: float, squares_O: Tensor) -> Tensor:
    """The length of each row of W + scale B A, [O] fp32.

    Args:
        base: The frozen layer; W may be in 4 bit. W A^T is what it says to the rows of A.
        a_rI: The small matrix of the inputs.
        b_Or: The small matrix of the outputs.
        scale: What B A is multiplied by.
        squares_O: The sum of squares of each row of W, fp32.
    """
    a_rI, b_Or = a_rI.detach(), b_Or.detach().float()
    wa_rO = base(a_rI.to(_arithmetic(base)))
    if base.bias is not None:
        wa_rO = wa_rO - base.bias
    cross_O = (b_Or * wa_rO.t().float()).sum(1)
    gram_rr = a_rI.float() @ a_rI.float().t()
    own_O = ((b_Or @ gram_rr) * b_Or).sum(1)
    norms_O: Tensor = (squares_O + 2 * scale * cross_O + scale**2 * own_O).clamp_min(TINY).sqrt()
    return norms_O


def _arithmetic(base: nn.Linear) -> torch.dtype:
    """The dtype in which a layer computes; a 4-bit one says so, a dense one has it."""
    return getattr(base, "compute_dtype", None) or base.weight.dtype


def _squares(layer: Any) -> Tensor:  # noqa: ANN401  (a class that is made at run time)
    """W2 [O] of a frozen weight, made at the first forward."""
    kept: Tensor | None = vars(layer).get(SQUARES)
    if kept is None or kept.device != layer.base_layer.weight.device:
        kept = _sum_of_squares(layer.base_layer)
        vars(layer)[SQUARES] = kept
    return kept


@torch.no_grad()
def _sum_of_squares(base: nn.Linear) -> Tensor:
    weight_OI: Tensor = dequantize_module_weight(base)
    parts = torch.split(weight_OI, ROWS)
    return torch.cat([rows.float().square().sum(1) for rows in parts])


def _plain(layer: LoraLayer) -> str | None:
    """The one active adapter, if it is DoRA on a frozen matrix, without dropout."""
    names = layer.active_adapters
    if layer.disable_adapters or layer.merged or len(names) != 1 or names[0] not in layer.lora_A:
        return None
    name: str = names[0]
    odd = layer.lora_B[name].bias is not None or layer.base_layer.weight.requires_grad
    odd = odd or getattr(layer, "fan_in_fan_out", False)
    odd = odd or not isinstance(layer.lora_dropout[name], nn.Identity)
    return None if odd or not isinstance(layer.lora_variant.get(name), DoraLinearVariant) else name


@cache
def _factored(kind: type) -> type:
    return type(f"Factored{kind.__name__}", (Factored, kind), {})
