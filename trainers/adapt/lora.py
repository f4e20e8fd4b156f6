"""LoRA's forward and backward with fp32 masters and math in the model's dtype, over peft's layers.

Kept for the backward are the input, which sibling projections share, and the low-rank product; nothing else. peft
goes on making, saving, merging and loading adapters: only the arithmetic in between is ours, and where it does not
apply (dropout, DoRA, int8, several adapters, merged weights) peft's own is used.

Letters of shapes: T tokens, I inputs, O outputs, r rank.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, Final

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

COVERED: Final = ("Linear", "Linear4bit")
"""peft's layers whose plain case is computed here."""


def install(model: nn.Module) -> int:
    """Give the LoRA layers of `model` our forward; how many there were. Comes after `get_peft_model`."""
    found = [m for m in model.modules() if isinstance(m, LoraLayer) and type(m).__name__ in COVERED]
    for module in found:
        module.__class__ = _fast(type(module))
    return len(found)


class Fast:
    """In front of a LoRA layer of peft: our forward where it applies, peft's where it does not."""

    def forward(self: Any, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """W x + s B A x, with W as it is stored."""
        name = None if args or kwargs else plain(self)
        if name is None:
            stock: Tensor = super().forward(x, *args, **kwargs)  # type: ignore[misc]  # the peft class behind
            return stock
        a_rI, b_Or = self.lora_A[name].weight, self.lora_B[name].weight
        y: Tensor = _Product.apply(x, a_rI, b_Or, self.base_layer, self.scaling[name])  # type: ignore[no-untyped-call]  # torch
        return y


def plain(layer: LoraLayer) -> str | None:
    """The one active adapter, if this is nothing but LoRA on a frozen matrix."""
    names = layer.active_adapters
    if layer.disable_adapters or layer.merged or len(names) != 1 or names[0] not in layer.lora_A:
        return None
    name: str = names[0]
    odd = layer.lora_B[name].bias is not None or layer.base_layer.weight.requires_grad
    odd = odd or getattr(layer, "fan_in_fan_out", False)  # GPT-2's Conv1D stores its weight transposed
    odd = odd or name in layer.lora_variant or not isinstance(layer.lora_dropout[name], nn.Identity)
    return None if odd else name


@cache
def _fast(kind: type) -> type:
    return type(f"Fast{kind.__name__}", (Fast, kind), {})


def dense(layer: nn.Linear, dtype: torch.dtype) -> Tensor:
    """The frozen weight [O, I] for math in `dtype`: itself, or NF4 made dense anew in each pass, never kept."""
    # FSDP2 gathers a weight without what belongs to it; the layer keeps that too
    state = getattr(layer.weight, "quant_state", None) or getattr(layer, "quant_state", None)
    weight: Tensor = layer.weight if state is None else _dequantise()(layer.weight.data, state)
    return weight.to(dtype)


@cache
def _dequantise() -> Callable[..., Tensor]:
    """The kernel of bitsandbytes; looked up when there is something to dequantise: few runs need the package."""
    found: Callable[..., Tensor] = import_module("bitsandbytes.functional").dequantize_4bit
    return found


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(  # torch gives `ctx` no type that knows what is kept on it
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        a_rI: Tensor,
        b_Or: Tensor,
        layer: nn.Linear,
        scale: float,
    ) -> Tensor:
        x_TI = x.reshape(-1, x.shape[-1])
        low_Tr = x_TI @ a_rI.to(x.dtype).t()
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        w_IO = dense(layer, x.dtype).t()
        y = x.new_empty(
            *x.shape[:-1], w_IO.shape[1]
        )  # no view may leave here: some models add to it in place
        y_TO = y.view(-1, w_IO.shape[1])
        torch.mm(x_TI, w_IO, out=y_TO) if bias is None else torch.addmm(bias, x_TI, w_IO, out=y_TO)
        y_TO.addmm_(low_Tr, b_Or.to(x.dtype).t(), alpha=scale)
        ctx.save_for_backward(x_TI, low_Tr, a_rI, b_Or)
        ctx.layer, ctx.scale, ctx.shape = layer, scale, x.shape
        return y

    @staticmethod
    def backward(  # as above
        ctx: Any,  # noqa: ANN401
        up: Tensor,
    ) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        x_TI, low_Tr, a_rI, b_Or = ctx.saved_tensors
        g_TO = up.reshape(-1, up.shape[-1])
        g_Tr = (g_TO @ b_Or.to(g_TO.dtype)).mul_(ctx.scale)
        da = (g_Tr.t() @ x_TI).to(a_rI.dtype)
        db = (g_TO.t() @ low_Tr).mul_(ctx.scale).to(b_Or.dtype)
        if not ctx.needs_input_grad[0]:
            return None, da, db, None, None
        dx_TI = (g_TO @ dense(ctx.layer, g_TO.dtype)).addmm_(g_Tr, a_rI.to(g_TO.dtype))
        return dx_TI.view(ctx.shape), da, db, None, None
