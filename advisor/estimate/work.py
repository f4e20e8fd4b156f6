"""What one micro-batch asks of a device: matrix products, attention, bytes that are streamed, kernels to launch.

One function is one addend, as in `memory.py`; `MICRO_BATCH` lists them, so that no sum can forget one. Counts of
elementwise bytes follow the operations of transformers' Llama block: each read and each write of a tensor, in 16 bit,
with fp32 copies where they are made. Source: "speed-rows" in the bibliography, where nothing else is said.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final, Literal

from advisor.estimate import shapes
from advisor.estimate.rates import Kernels, loss_bytes, operations, stack
from advisor.estimate.setup import Setup
from recipes.plan import Lora

FLASH_BACKWARD: Final = 2.5
"""Flash attention's backward does five matrix products where the forward does two (Dao et al., 2022)."""
NORMS: Final = {"eager": (72.0, 144.0), "function": (72.0, 60.0), "fused": (8.0, 12.0)}
"""Bytes per hidden unit of both norms, forward and backward: a dozen fp32 temporaries each; those of our function, whose
backward starts from the input alone; or in and out once."""
ROTARY_EAGER: Final = (18.0, 24.0)
ROTARY_FUSED: Final = (4.0, 4.0)
"""Bytes per query and key unit: halves are turned, multiplied twice and added, or in and out once."""
GATES: Final = {"eager": (10.0, 18.0), "function": (10.0, 24.0), "fused": (6.0, 10.0)}
"""Bytes per MLP unit of silu(gate) x up; our function makes the activation again."""
RESIDUALS: Final = (12.0, 30.0)
"""Bytes per hidden unit: two sums forward; backward, gradients of shared inputs are added up."""
ADAPTER_STOCK: Final = ((2.0, 12.0), (10.0, 6.0))
ADAPTER_FUNCTION: Final = ((2.0, 6.0), (6.0, 4.0))
"""Bytes per input and per output unit of one adapted layer, forward and backward."""
ADAPTER_CASTS: Final = (8.0, 6.0)
"""More of the same where the adapter computes in fp32 and casts its input and output itself."""
DROPOUT: Final = 5.0
"""Bytes per input unit of an adapter's dropout."""
WIDE: Final = ((48.0, 102.0), 6.0)
"""Where hidden states are fp32 (a model prepared for k-bit training): bytes per hidden unit, and per linear output."""
DISPATCH: Final = 12.0
"""Bytes per active expert and hidden unit, to bring tokens to experts and back (three passes of 4)."""
DEQUANTISE: Final = 2.5
"""Bytes per 4-bit weight: half a byte is read, two are written."""
FOREACH_BYTES: Final = 34.0
"""Bytes per 16-bit weight that AdamW moves more where it runs operation by operation over all weights at once."""
EIGHT_BIT: Final = 2.03
"""Bytes of two moments in 8 bit, which are moved also where they are in memory that nobody counts (paged)."""
CLIP_BYTES: Final = 6.0
"""Bytes per 16-bit gradient to measure and shorten it."""


Form = Literal["eager", "function", "fused"]


@dataclass(frozen=True, slots=True)
class Work:
    """An amount of work; `eager_bytes` are moved by many small kernels, `stream_bytes` by few large ones."""

    matmul_flops: float = 0.0
    attention_flops: float = 0.0
    stream_bytes: float = 0.0
    eager_bytes: float = 0.0
    launches: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def flops(self) -> float:
        """All floating-point operations."""
        return self.matmul_flops + self.attention_flops


def passes(setup: Setup) -> tuple[float, float]:
    """How often a block's forward runs, and its backward, on average over all blocks."""
    share = shapes.trained_layers(setup.shape, setup.adaptation) / setup.shape.layers
    return 1.0 + (share if setup.checkpointing else 0.0) + _without_gradients(setup), share


def _without_gradients(setup: Setup) -> float:
    """Forward passes beside those that learn: of a reference, and of KTO's second batch."""
    reference = setup.reference in {"copy", "adapter_off"}
    return float(reference) + (1.0 + reference if setup.objective == "kto" else 0.0)


def projections(setup: Setup) -> Work:
    """The linear layers of all blocks: two operations a weight and token, twice or three times with the backward."""
    forward, backward = passes(setup)
    each = 2.0 * shapes.matmul_weights(setup.shape) * setup.pass_tokens
    return Work(matmul_flops=each * (forward + backward * (1 if setup.adds else 2)))


def head(setup: Setup) -> Work:
    """The output matrix and the loss, on the tokens that meet it; a reward model has one number instead."""
    if setup.objective == "reward":
        return Work()
    tokens = setup.pass_tokens if setup.profile.loss == "full" else setup.label_tokens
    trains = shapes.trains_head(setup.shape, setup.adaptation) or "lm_head" in setup.extra_modules
    times = (3 if trains else 2) + _without_gradients(setup)
    return Work(
        matmul_flops=2.0 * shapes.head_weights(setup.shape) * tokens * times,
        stream_bytes=loss_bytes(setup.profile) * setup.shape.vocabulary * tokens,
    )


def attention(setup: Setup) -> Work:
    """Causal attention over documents of the longest length: half of all pairs."""
    forward, backward = passes(setup)
    shape = setup.shape
    each = 2.0 * setup.longest_tokens * shape.queries * shape.layers * setup.pass_tokens
    return Work(attention_flops=each * (forward + FLASH_BACKWARD * backward))


def norms(setup: Setup) -> Work:
    """Both norms of each block."""
    used = _form(setup, stack(setup.profile).norm, setup.profile.norm)
    return _moved(setup, setup.shape.hidden, NORMS[used], used)


def _form(setup: Setup, known: Kernels, kept: Literal["eager", "function"]) -> Form:
    """The trainer's kernels; where they are eager, ours keep less (what other functions do is in their stack)."""
    return "function" if setup.profile.is_native and known == "eager" and kept == "function" else known


def rotary(setup: Setup) -> Work:
    """Queries and keys turned by their positions."""
    used, width = stack(setup.profile).rotary, setup.shape.queries + setup.shape.keys
    return _moved(setup, width, ROTARY_FUSED if used == "fused" else ROTARY_EAGER, used)


def gate(setup: Setup) -> Work:
    """The product of gate and up in each MLP; even eager it is two large kernels."""
    shape = setup.shape
    used = _form(setup, stack(setup.profile).gate, setup.profile.swiglu)
    width = shape.moe.active * shape.moe.mlp if shape.moe else shape.mlp
    return _moved(setup, width, GATES[used], "fused")


def residuals(setup: Setup) -> Work:
    """The sums around attention and MLP."""
    return _moved(setup, setup.shape.hidden, RESIDUALS, "fused")


def wide_states(setup: Setup) -> Work:
    """What hidden states in fp32 cost more."""
    if not setup.profile.kbit_prep:
        return Work()
    per_hidden, per_output = WIDE
    shape, moe = setup.shape, setup.shape.moe
    outputs = sum(layer.outputs for layer in shapes.linears(shape))
    outputs += moe.active * (2 * moe.mlp + shape.hidden) if moe else 0
    both = _moved(setup, setup.shape.hidden, per_hidden, "eager")
    return both + _moved(setup, outputs, (per_output, per_output), "eager")


def experts(setup: Setup) -> Work:
    """Tokens on their way to the experts and back."""
    moe = setup.shape.moe
    if moe is None:
        return Work()
    return _moved(setup, moe.active * setup.shape.hidden, (DISPATCH, DISPATCH), "eager")


def adapters(setup: Setup) -> Work:
    """The small matrices of LoRA: hardly any arithmetic, but inputs and outputs pass through once more."""
    lora = setup.adaptation
    if not isinstance(lora, Lora):
        return Work(matmul_flops=6.0 * setup.trained * setup.pass_tokens if setup.adds else 0.0)
    layers = shapes.adapted(setup.shape, lora.targets)
    inputs, outputs = sum(x.inputs for x in layers), sum(x.outputs for x in layers)
    used = stack(setup.profile).adapters
    forward, backward = ADAPTER_STOCK if used == "stock" else ADAPTER_FUNCTION
    casts = ADAPTER_CASTS if used == "stock" and setup.profile.adapter_math == "adapter" else (0.0, 0.0)
    drop = DROPOUT if lora.dropout or setup.dropout else 0.0
    moved = tuple(
        (per_input + casts[0] + drop) * inputs + (per_output + casts[1]) * outputs
        for per_input, per_output in (forward, backward)
    )
    small = Work(matmul_flops=6.0 * (setup.added - setup.extra_weights) * setup.pass_tokens)
    return small + _moved(setup, 1.0, (moved[0], moved[1]), "eager" if used == "stock" else "fused")


def dequantisation(setup: Setup) -> Work:
    """A 4-bit base gets its 16 bits back in every pass, however few the tokens."""
    if not setup.base_is_nf4:
        return Work()
    quantised = shapes.linear_weights(setup.shape)
    if setup.profile.experts_quantised:
        quantised += shapes.expert_weights(setup.shape)
    return Work(stream_bytes=DEQUANTISE * quantised * sum(passes(setup)))


def launches(setup: Setup) -> Work:
    """Kernels that the host starts."""
    count, shape = operations(), setup.shape
    each = count.block
    if isinstance(setup.adaptation, Lora):
        each += count.adapter * len(shapes.adapted(shape, setup.adaptation.targets))
    if setup.base_is_nf4:
        each += count.quantised * len(shapes.linears(shape))
    if shape.moe:
        each += count.expert * shape.moe.experts
    forward, backward = passes(setup)
    return Work(launches=each * (forward + count.backward * backward) * shape.layers)


AddsWork = Callable[[Setup], Work]

MICRO_BATCH: Final[tuple[AddsWork, ...]] = (
    projections,
    head,
    attention,
    norms,
    rotary,
    gate,
    residuals,
    wide_states,
    experts,
    adapters,
    dequantisation,
    launches,
)
"""Everything that one micro-batch does, forward and backward."""


def micro_batch(setup: Setup) -> Work:
    """The work of one forward and backward over `setup.micro_batch_tokens` tokens."""
    return sum((part(setup) for part in MICRO_BATCH), Work())


def step(setup: Setup) -> Work:
    """The work of the optimizer, once a step: weight and moments are read and written, the gradient is read."""
    used, wide = setup.moves_by, setup.trained_bytes
    state = EIGHT_BIT if used.paged else used.state(wide)
    each = 3 * wide + 2 * state + (CLIP_BYTES + FOREACH_BYTES * (used.step_copies > 0)) * wide / 2
    return Work(stream_bytes=setup.trained * each)


def forward_flops(setup: Setup) -> float:
    """Floating-point operations of one token's forward pass, with the head on it."""
    shape = setup.shape
    pairs = 2.0 * setup.longest_tokens * shape.queries * shape.layers
    return 2.0 * (shapes.matmul_weights(shape) + shapes.head_weights(shape)) + pairs


def _moved(setup: Setup, width: float, per_unit: tuple[float, float], used: Form) -> Work:
    """Bytes of an elementwise operation in every block: so many per unit of `width`, forward and backward."""
    forward, backward = passes(setup)
    tokens, wide = setup.pass_tokens * setup.shape.layers, setup.element_bytes / 2
    size = (per_unit[0] * forward + per_unit[1] * backward) * width * tokens * wide
    return Work(stream_bytes=size) if used == "fused" else Work(eager_bytes=size)
