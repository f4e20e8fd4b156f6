"""RMSNorm and gated MLPs that keep for the backward only what cannot be made again, over the model's own layers.

The stock modules leave autograd to keep what each of their operations needs: two fp32 copies of a norm's input, the
gate, its activation and the product before the down projection. Here a norm keeps its 16-bit input and one number a
token, and a gated MLP keeps gate and up. Forwards are the stock operations in the stock order, so they give the same
bits; only gradients differ, by rounding, and those of norms are summed in fp32.

Nobody is taken at his name: `install` makes a small copy of each kind of module and holds our outputs and gradients
against its own, in fp32 and bf16. What does not agree stays as it is, and is named.

Letters of shapes: T tokens, H hidden, I inner width of an MLP, r rank.
"""

import copy
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from trainers.adapt.lora import Fast, as_type, dense, matrices, plain, through

PROBE_TOKENS: Final = 6
PROBE_WIDTH: Final = 16
PROBE_ERROR: Final = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
"""Largest relative error of a gradient that rounding explains; another formula is far beyond."""
TYPES: Final = (
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.bfloat16),
    (torch.bfloat16, torch.float32),  # norms are sometimes kept in fp32
)
"""Of a norm's input and weight."""
FOUR_BITS: Final = ("bitsandbytes.nn.modules", "Linear4bit")
"""Where the class of a matrix in NF4 lives: asked for by name, since few runs need the package, and with its module,
since peft calls its layers over such a matrix the same."""


def install(model: nn.Module) -> tuple[str, ...]:
    """Give norms and gated MLPs our functions where they are proven equal.

    The state dictionary and the names of modules stay as they were.

    Args:
        model: Any model, with or without adapters, also on the meta device.

    Returns:
        The kinds of norms and MLPs that keep their own functions, by class name.
    """
    proven: dict[tuple[type, ...], type | None] = {}
    left: dict[str, None] = {}
    for module in list(model.modules()):
        if _looks_like_a_norm(module):
            kind: tuple[type, ...] = (type(module),)
            prove = _norm
        elif _looks_like_a_gated_mlp(module):
            kind, prove = (type(module), type(_activation(module))), _mlp
        else:
            if _is_meant(module):
                left[type(module).__name__] = None
            continue
        if kind not in proven:
            with unset_fake_temporarily():
                proven[kind] = prove(module)
        ours = proven[kind]
        if ours is None:
            left[type(module).__name__] = None
        else:
            module.__class__ = ours
    return tuple(left)


def _is_meant(module: nn.Module) -> bool:
    """Whether a person would look for a module among norms and MLPs; those that have ours are not asked."""
    name = type(module).__name__
    own = isinstance(module, FastNorm | FastMlp | BaseTunerLayer)
    return not own and name.endswith(("Norm", "MLP", "Experts", "DenseActDense"))


def _kind(module: nn.Module) -> type:
    return type(module)


@cache
def _class(mixin: type, kind: type, **form: Hashable) -> type:
    return type(f"Fast{kind.__name__}", (mixin, kind), form)


# --- norms ---


@dataclass(frozen=True, slots=True)
class Scale:
    """How a norm applies its weight: as it is or plus one, before or after rounding to the input's type."""

    plus_one: bool
    rounds_first: bool

    def factor(self, weight_H: Tensor) -> Tensor:
        """What the normalised input is multiplied by, [H]."""
        return 1.0 + weight_H.float() if self.plus_one else weight_H

    def apply(self, normal: Tensor, weight_H: Tensor, dtype: torch.dtype) -> Tensor:
        """The norm's output from the normalised input in fp32."""
        if self.rounds_first:
            return self.factor(weight_H) * normal.to(dtype)
        return (normal * self.factor(weight_H)).to(dtype)


SCALES: Final = (
    Scale(plus_one=False, rounds_first=True),  # Llama, Qwen, Mistral, Phi-3
    Scale(plus_one=False, rounds_first=False),  # OLMo 2, gpt-oss
    Scale(plus_one=True, rounds_first=False),  # Gemma
)


class FastNorm:
    """In front of an RMSNorm: our forward."""

    scale: Scale

    def forward(self: Any, x: Tensor) -> Tensor:
        """Weight times x / rms(x), in the order and the types of the class behind."""
        y: Tensor = _RmsNorm.apply(x, self.weight, _epsilon(self), self.scale)  # type: ignore[no-untyped-call]  # torch
        return y


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(  # torch gives `ctx` no type that knows what is kept on it
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        weight_H: Tensor,
        epsilon: float,
        scale: Scale,
    ) -> Tensor:
        x32 = x.float()
        inverse = torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + epsilon)
        ctx.save_for_backward(x, weight_H, inverse)
        ctx.scale = scale
        return scale.apply(x32 * inverse, weight_H, x.dtype)

    @staticmethod
    def backward(  # as above
        ctx: Any,  # noqa: ANN401
        up: Tensor,
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight_H, inverse = ctx.saved_tensors
        normal, up32 = as_type(x, torch.float32) * inverse, as_type(up, torch.float32)
        dx = dw = None
        if ctx.needs_input_grad[0]:
            g = up32 * ctx.scale.factor(weight_H)
            dx = g.sub_(normal * (g * normal).mean(-1, keepdim=True)).mul_(inverse)
            dx = as_type(dx, x.dtype)
        if ctx.needs_input_grad[1]:
            dw = (up32 * normal).flatten(0, -2).sum(0).to(weight_H.dtype)
        return dx, dw, None, None


def _looks_like_a_norm(module: nn.Module) -> bool:
    weight = module._parameters.get("weight")
    alone = set(module._parameters) == {"weight"} and not module._modules and not module._buffers
    foreign = type(module).__module__.startswith("torch.") or isinstance(module, FastNorm)
    return alone and weight is not None and weight.ndim == 1 and not foreign and _epsilon(module) is not None


def _epsilon(module: nn.Module) -> float | None:
    found: float | None = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return found


def _norm(module: nn.Module) -> type | None:
    """The class of ours that equals the norm `module`, or None."""
    kinds = (_class(FastNorm, _kind(module), scale=scale) for scale in SCALES)
    return next(
        (ours for ours in kinds if all(_agree(_small_norm(module, w), ours, x) for x, w in TYPES)), None
    )


def _small_norm(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The same norm over another weight: ones and zeros hide what is done to them."""
    small, generator = _without_weights(module), torch.Generator().manual_seed(1)
    weight_H = torch.randn(PROBE_WIDTH, generator=generator, device="cpu")
    small._parameters = {"weight": nn.Parameter(weight_H.to(dtype))}
    return small


# --- gated MLPs ---


@dataclass(frozen=True, slots=True)
class Gate:
    """The function of the gate: its value, and the gradient at its input from that at its output."""

    value: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


_aten = torch.ops.aten
GATES: Final = (
    Gate(F.silu, _aten.silu_backward),
    Gate(partial(F.gelu, approximate="tanh"), partial(_aten.gelu_backward, approximate="tanh")),
    Gate(F.gelu, _aten.gelu_backward),
)


class FastMlp:
    """In front of down(f(gate x) * up x): our forward."""

    gate: Gate

    def forward(self: Any, x: Tensor) -> Tensor:
        """Down of the gated product; a linear layer that is more than a matrix with LoRA is called as it is."""
        if "gate_up_proj" in self._modules:
            gate, up = self.gate_up_proj(x).chunk(2, dim=-1)  # Phi-3
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        down = _matrix(self.down_proj)
        if down is None:
            product: Tensor = _Gated.apply(gate, up, self.gate)  # type: ignore[no-untyped-call]  # torch
            y: Tensor = self.down_proj(product)
            return y
        layer, a_rI, b_Hr, scale = down
        own = layer._parameters
        y = _GatedDown.apply(gate, up, own["weight"], own["bias"], a_rI, b_Hr, layer, scale, self.gate)  # type: ignore[no-untyped-call]  # torch
        return y


class _Gated(torch.autograd.Function):
    """f(gate) * up; keeps the two, and makes the product again where it is needed."""

    @staticmethod
    def forward(  # as above
        ctx: Any,  # noqa: ANN401
        gate: Tensor,
        up: Tensor,
        function: Gate,
    ) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.function = function
        return function.value(gate).mul_(up)

    @staticmethod
    def backward(  # as above
        ctx: Any,  # noqa: ANN401
        g: Tensor,
    ) -> tuple[Tensor, Tensor, None]:
        gate, up = ctx.saved_tensors
        return ctx.function.backward(g * up, gate), g * ctx.function.value(gate), None


class _GatedDown(torch.autograd.Function):
    """W h + bias + s B A h for h = f(gate) * up, which is as wide as both and is not kept."""

    @staticmethod
    def forward(  # as above
        ctx: Any,  # noqa: ANN401
        gate: Tensor,
        up: Tensor,
        _: Tensor,  # the layer's weight, for its gradient; it may be packed, so `dense` reads it
        bias_H: Tensor | None,
        a_rI: Tensor | None,
        b_Hr: Tensor | None,
        layer: nn.Linear,
        scale: float,
        function: Gate,
    ) -> Tensor:
        h = function.value(gate).mul_(up)
        y, low_Tr = through(layer, h), None
        if a_rI is not None and b_Hr is not None:
            low_Tr = F.linear(h.reshape(-1, h.shape[-1]), as_type(a_rI, h.dtype)).mul_(scale)
            y.view(-1, y.shape[-1]).addmm_(low_Tr, as_type(b_Hr, h.dtype).t())
        ctx.save_for_backward(gate, up, low_Tr, a_rI, b_Hr)
        ctx.layer, ctx.scale, ctx.function = layer, scale, function
        return y

    @staticmethod
    def backward(  # as above
        ctx: Any,  # noqa: ANN401
        g: Tensor,
    ) -> tuple[Tensor | None, ...]:
        gate, up, low_Tr, a_rI, b_Hr = ctx.saved_tensors
        g_TH, dtype, layer = g.reshape(-1, g.shape[-1]), g.dtype, ctx.layer
        value = ctx.function.value(gate)
        dweight = dbias = da = db = None
        # for a frozen matrix without adapters nobody needs it
        h_TI: Any = None
        if ctx.needs_input_grad[2] or low_Tr is not None:
            h_TI = (value * up).reshape(-1, value.shape[-1])
        if ctx.needs_input_grad[2]:
            dweight = as_type(torch.mm(g_TH.t(), h_TI), layer.weight.dtype)
        if ctx.needs_input_grad[3]:
            dbias = g_TH.float().sum(0).to(layer.bias.dtype)
        dh_TI = torch.mm(g_TH, dense(layer, dtype))
        if low_Tr is not None:
            g_Tr = torch.mm(g_TH, as_type(b_Hr, dtype)).mul_(ctx.scale)
            dh_TI.addmm_(g_Tr, as_type(a_rI, dtype))
            da = as_type(torch.mm(g_Tr.t(), h_TI), a_rI.dtype)
            db = as_type(torch.mm(g_TH.t(), low_Tr), b_Hr.dtype)
        del h_TI
        dh = dh_TI.view(gate.shape)
        dup = value.mul_(dh)
        return ctx.function.backward(dh.mul_(up), gate), dup, dweight, dbias, da, db, None, None, None


def _matrix(layer: Any) -> tuple[nn.Linear, Tensor | None, Tensor | None, float] | None:  # noqa: ANN401  (peft)
    """What a linear layer consists of: the base, A, B and their factor; None if it is more than that."""
    if _is_watched(layer):
        return None
    if isinstance(layer, Fast):
        name = plain(layer)
        if name is None:
            return None
        return layer._modules["base_layer"], *matrices(layer, name)  # type: ignore[attr-defined]  # as above
    kind = type(layer)
    bare = kind is nn.Linear or (kind.__module__, kind.__name__) == FOUR_BITS
    return (layer, None, None, 0.0) if bare else None


def _is_watched(layer: nn.Module) -> bool:
    """Whether somebody waits for this layer to be called."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))


def _looks_like_a_gated_mlp(module: nn.Module) -> bool:
    parts = {"gate_proj", "up_proj"} if "gate_proj" in module._modules else {"gate_up_proj"}
    linear = parts | {"down_proj"} <= set(module._modules)
    alone = not module._parameters and not isinstance(module, FastMlp)
    return linear and alone and _activation(module) is not None


def _activation(module: nn.Module) -> Callable[[Tensor], Tensor] | None:
    found: Callable[[Tensor], Tensor] | None = getattr(
        module, "act_fn", getattr(module, "activation_fn", None)
    )
    return found


def _mlp(module: nn.Module) -> type | None:
    """The class of ours that equals the gated MLP `module`, or None."""
    kinds = (_class(FastMlp, _kind(module), gate=gate) for gate in GATES)
    return next(
        (ours for ours in kinds if all(_agree(_small_mlp(module, d), ours, d) for d in PROBE_ERROR)), None
    )


def _small_mlp(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The same module over narrow linear layers."""
    small, width, generator = _without_weights(module), PROBE_WIDTH, torch.Generator().manual_seed(1)
    small._modules = dict(module._modules)
    for name in ("gate_proj", "up_proj", "gate_up_proj", "down_proj"):
        if name in small._modules:
            wide = 2 * width if name == "gate_up_proj" else width
            weight = torch.randn(wide, width, generator=generator, device="cpu").div_(width**0.5)
            linear = nn.Linear(width, wide, bias=False, device="meta")
            linear.weight = nn.Parameter(weight.to(dtype))
            small._modules[name] = linear
    return small


# --- the probe ---


def _without_weights(module: nn.Module) -> nn.Module:
    """A module of the same class and settings, on whose parts one may lay hands."""
    small = copy.copy(module)
    vars(small).update(_forward_hooks={}, _forward_pre_hooks={}, _backward_hooks={}, _parameters={})
    return small


def _agree(small: nn.Module, ours: type, dtype: torch.dtype) -> bool:
    """Whether class `ours` gives the bits of `small`'s own class, and its gradients up to rounding."""
    weights, generator = list(small.parameters()), torch.Generator().manual_seed(0)
    x, up = torch.randn(2, PROBE_TOKENS, PROBE_WIDTH, generator=generator, device="cpu").mul_(2)
    found: list[tuple[Tensor, tuple[Tensor, ...]]] = []
    try:
        for kind in (type(small), ours):
            small.__class__ = kind
            given = x.to(dtype, copy=True).requires_grad_()
            with torch.enable_grad():
                y = small(given)
            found.append((y, torch.autograd.grad(y, [given, *weights], up.to(y.dtype))))
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False  # it wants other inputs, or does other things
    (theirs, wanted), (mine, gradients) = found
    close = all(
        (a - b).float().norm() <= PROBE_ERROR[dtype] * b.float().norm()
        for a, b in zip(gradients, wanted, strict=True)
    )
    return theirs.dtype == mine.dtype and torch.equal(theirs, mine) and close
