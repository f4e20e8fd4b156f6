"""What one decoder block keeps for its backward pass, in bytes per token.

Llama-type blocks as transformers 5.23 runs them, attention in a flash kernel (nothing quadratic in the length).
Legend: h hidden, f MLP width, q all queries, k all keys; e bytes of a number of the base (2 or 4).
Source of every coefficient: dry runs on fake tensors ("dry-run" in the bibliography), equal to the byte for the
bf16 rows that the tests hold.
"""

from dataclasses import dataclass

from advisor.catalog.models import ModelShape
from advisor.estimate.setup import Setup
from advisor.estimate.shapes import Linear, adapted
from recipes.plan import Lora

FP32 = 4


@dataclass(frozen=True, slots=True)
class Saved:
    """Bytes per token that one block saves, apart in its MLP and the rest (norms, attention, adapters)."""

    mlp: float
    rest: float

    @property
    def total(self) -> float:
        """Both parts."""
        return self.mlp + self.rest


def saved(setup: Setup) -> Saved:
    """What one block saves for its backward without checkpointing."""
    shape, e = setup.shape, setup.element_bytes
    rest = _norms(setup) + _attention(setup) + _extra(shape, frozen=_frozen(setup))
    if not isinstance(setup.adaptation, Lora):  # a trained linear layer keeps its input
        inputs = 2 * e * shape.hidden
        return Saved(_mlp(setup, product=True), rest + inputs)
    layers = adapted(shape, setup.adaptation.targets)
    kept, copies = _adapter_inputs(setup, layers)
    ranks = len(layers) * setup.adaptation.rank * _rank_bytes(setup)
    shares = setup.profile.adapter_math == "base"
    product = shares and any(layer.reads == "product" for layer in layers)
    return Saved(_mlp(setup, product=product), rest + kept + copies + ranks)


def _frozen(setup: Setup) -> bool:
    return isinstance(setup.adaptation, Lora)


def _norms(setup: Setup) -> float:
    """Two RMS norms: an fp32 copy of the input each, its normalised form where the weight is trained, 1 / norm."""
    h, e = setup.shape.hidden, setup.element_bytes
    if setup.profile.norm == "function":
        return 2 * (e * h + FP32)
    return 2 * (FP32 * h + FP32) + (0 if _frozen(setup) else 2 * e * h)


def _attention(setup: Setup) -> float:
    """Queries, keys, values and the result; the logarithm of each softmax sum in fp32."""
    shape, e = setup.shape, setup.element_bytes
    copies = setup.profile.attention_copies * e * shape.queries
    return e * (2 * shape.queries + 2 * shape.keys) + FP32 * shape.heads + copies


def _mlp(setup: Setup, *, product: bool) -> float:
    """Gate, silu(gate) and up; their product where the layer after it needs its input."""
    shape, e = setup.shape, setup.element_bytes
    kept = (2 if setup.profile.swiglu == "function" else 3) + (1 if product else 0)
    dense = kept * e * shape.mlp
    if shape.moe is None:
        return dense
    moe = shape.moe
    return moe.active * e * (shape.hidden + kept * moe.mlp) + FP32 * moe.experts


def _adapter_inputs(setup: Setup, layers: tuple[Linear, ...]) -> tuple[float, float]:
    """Inputs that adapters share with each other, and the copies of those that do not share."""
    e, math = setup.element_bytes, setup.profile.adapter_math
    if math == "base":
        shared = {layer.reads: layer.inputs for layer in layers if layer.reads in {"attention", "mlp"}}
        return e * sum(shared.values()), 0.0
    width = FP32 if math == "adapter" else 2
    return 0.0, float(width * sum(layer.inputs for layer in layers))


def _rank_bytes(setup: Setup) -> int:
    return FP32 if setup.profile.adapter_math == "adapter" else setup.element_bytes


def _extra(shape: ModelShape, *, frozen: bool) -> float:
    """What other blocks keep beyond a Llama block (16-bit figures; table of dry runs per architecture)."""
    h, q, k = shape.hidden, shape.queries, shape.keys
    heads = FP32 * (shape.heads + shape.kv_heads)
    match shape.block:
        case "qwen3":
            return (4 if frozen else 6) * (q + k) + heads
        case "olmo2":
            return 4 * (q + k) + 8 if frozen else 6 * (h + q) + 8 * k + 8
        case "phi3":
            return 2 * (h + q + k)
        case "glm4":
            return (8 if frozen else 12) * h + 2 * q + heads + 8
        case "gemma":
            return 0.0 if frozen else 4 * h
        case "gemma3":
            return (8 * h + 4 * (q + k) if frozen else 20 * h + 8 * (q + k)) + heads + 57
        case _:
            return 0.0
