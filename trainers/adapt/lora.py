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
import torch.nn.functional as F
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
        a_rI, b_Or, scale = matrices(self, name)
        y: Tensor = _Product.apply(x, a_rI, b_Or, self._modules["base_layer"], scale)  # type: ignore[no-untyped-call]  # torch
        return y


def matrices(layer: Any, name: str) -> tuple[Tensor, Tensor, float]:  # noqa: ANN401  (a peft layer)
    """A [r, I], B [O, r] and their factor."""
    first, second = (layer._modules[part]._modules[name] for part in ("lora_A", "lora_B"))
    return first._parameters["weight"], second._parameters["weight"], layer.scaling[name]


def plain(layer: Any) -> str | None:  # noqa: ANN401  (peft's layers have no common type that knows their parts)
    """The one active adapter, if this is nothing but LoRA on a frozen matrix."""
    names = layer.active_adapters
    if len(names) != 1 or layer.disable_adapters or layer.merged:
        return None
    name: str = names[0]
    parts = layer._modules  # `nn.Module.__getattr__` is slow, and this is asked of each layer in each pass
    second = parts["lora_B"]._modules.get(name)
    if second is None or second.bias is not None or parts["base_layer"].weight.requires_grad:
        return None
    odd = getattr(layer, "fan_in_fan_out", False)  # GPT-2's Conv1D stores its weight transposed
    odd = odd or name in layer.lora_variant or type(parts["lora_dropout"]._modules[name]) is not nn.Identity
    return None if odd else name


@cache
def _fast(kind: type) -> type:
    return type(f"Fast{kind.__name__}", (Fast, kind), {})


def dense(layer: nn.Linear, dtype: torch.dtype) -> Tensor:
    """The frozen weight [O, I] for math in `dtype`: itself, or NF4 made dense anew in each pass, never kept."""
    weight: Tensor = layer._parameters["weight"]  # type: ignore[assignment]  # a linear layer has one
    state = None if type(layer) is nn.Linear else _quantised(layer, weight)
    return as_type(weight if state is None else _dequantise()(weight.data, state), dtype)


def _quantised(layer: nn.Module, weight: Tensor) -> object:
    """How a weight of NF4 is read; FSDP2 gathers it without what belongs to it, and the layer keeps that too."""
    return getattr(weight, "quant_state", None) or vars(layer).get("quant_state")


def as_type(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` in `dtype`; asking first costs less than a `to` that does nothing."""
    return x if x.dtype == dtype else x.to(dtype)


@cache
def _dequantise() -> Callable[..., Tensor]:
    """The kernel of bitsandbytes; looked up when there is something to dequantise: few runs need the package."""
    found: Callable[..., Tensor] = import_module("bitsandbytes.functional").dequantize_4bit
    return found


def through(layer: nn.Linear, x: Tensor) -> Tensor:
    """W x + bias, in memory of its own: no view may leave a function, since some models add to it in place."""
    weight_OI, bias = dense(layer, x.dtype), layer._parameters["bias"]
    if bias is None:
        return F.linear(x, weight_OI)
    y = x.new_empty(*x.shape[:-1], len(weight_OI))
    x_TI, y_TO = x.reshape(-1, x.shape[-1]), y.view(-1, len(weight_OI))
    torch.addmm(as_type(bias, x.dtype), x_TI, weight_OI.t(), out=y_TO)
    return y


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
        y, x_TI = through(layer, x), x.reshape(-1, x.shape[-1])
        low_Tr = F.linear(x_TI, as_type(a_rI, x.dtype)).mul_(scale)
        y.view(-1, y.shape[-1]).addmm_(low_Tr, as_type(b_Or, x.dtype).t())
        ctx.save_for_backward(x_TI, low_Tr, a_rI, b_Or)
        ctx.layer, ctx.scale, ctx.shape = layer, scale, x.shape
        return y

    @staticmethod
    def backward(  # as above
        ctx: Any,  # noqa: ANN401
        up: Tensor,
    ) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        x_TI, low_Tr, a_rI, b_Or = ctx.saved_tensors
        g_TO, dtype = up.reshape(-1, up.shape[-1]), up.dtype
        g_Tr = torch.mm(g_TO, as_type(b_Or, dtype)).mul_(ctx.scale)
        da = as_type(torch.mm(g_Tr.t(), x_TI), a_rI.dtype)
        db = as_type(torch.mm(g_TO.t(), low_Tr), b_Or.dtype)
        if not ctx.needs_input_grad[0]:
            return None, da, db, None, None
        dx_TI = torch.mm(g_TO, dense(ctx.layer, dtype)).addmm_(g_Tr, as_type(a_rI, dtype))
        return dx_TI.view(ctx.shape), da, db, None, None
