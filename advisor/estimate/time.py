"""How long a training run takes, and what renting the GPU costs: floating-point operations, bytes, a launch floor."""

from math import ceil, sqrt
from typing import Final

from advisor.catalog.gpus import Gpu, Hardware
from advisor.estimate import memory, shapes
from advisor.estimate.setup import Setup
from advisor.estimate.terms import Interval
from recipes.plan import Full, LastLayers, Lora

FULL_EFFICIENCY: Final = (0.60, 0.70)
LORA_EFFICIENCY: Final = (0.50, 0.60)
NF4_EFFICIENCY: Final = (0.44, 0.70)
"""Share of the dense peak that training reaches, recomputation counted as work: 69 rows measured on an A100 at
4,096 tokens ("fms-acceleration"). The lowest and the highest of each group."""
LAUNCH_SECONDS: Final = (0.002, 0.005)
"""Host time for one layer of one micro-batch: ours without arithmetic (2 ms), a stack of 2023 fitted (5 ms)."""
UNPROBED: Final = (0.8, 1.25)
"""Without a measurement on the machine itself nobody can promise better than a quarter."""
CPU_SPREAD: Final = (0.6, 2.2)
"""Training against `forward passes x operations`: small products waste a CPU, and its load changes."""


def forward_flops(setup: Setup, *, labels: float) -> float:
    """Floating-point operations of the forward pass for one token; `labels` is the share that meets the head."""
    shape = setup.shape
    head = 2 * shapes.head_weights(shape) * labels
    return _blocks(setup) + head


def _blocks(setup: Setup) -> float:
    """Of all decoder blocks: two for each weight, and causal attention over half of the longest document."""
    shape = setup.shape
    attention = 2 * setup.longest_tokens * shape.queries * shape.layers
    return 2 * shapes.matmul_weights(shape) + attention


def training_flops(setup: Setup) -> float:
    """Floating-point operations of forward, backward and recomputation for one token."""
    labels, share = setup.label_share, _trained_share(setup)
    blocks, head = _blocks(setup), 2 * shapes.head_weights(setup.shape) * setup.label_share
    again = blocks * share if setup.checkpointing else 0.0
    match setup.adaptation:
        case Full() | LastLayers():
            head_passes = 3 if shapes.trains_head(setup.shape, setup.adaptation) else 2
            return blocks * (1 + 2 * share) + head * head_passes + again
        case Lora():
            weights = 2 * shapes.matmul_weights(setup.shape)
            attention = 2 * (blocks - weights)
            return (
                forward_flops(setup, labels=labels) + weights + attention + head + 6 * setup.trained + again
            )
        case _:
            return 3 * forward_flops(setup, labels=labels) + again


def _trained_share(setup: Setup) -> float:
    return shapes.trained_layers(setup.shape, setup.adaptation) / setup.shape.layers


def training_seconds(setup: Setup, tokens: float, hardware: Hardware) -> Interval | None:
    """Seconds to train on `tokens` tokens (all epochs together), without loading and evaluation.

    None where the rates of the hardware are not known: a GPU without a published dense peak and bandwidth, or a CPU
    on which nobody measured the model's forward pass.
    """
    if hardware.kind == "cpu":
        return _on_cpu(setup, tokens, hardware.forward_tokens_per_second)
    card = hardware.gpu
    if card is None or not card.bf16_tflops or not card.bandwidth_gbs or setup.dtype == "float32":
        return None
    return _on_gpu(setup, tokens, card.bf16_tflops * 1e12, card.bandwidth_gbs * 1e9)


def _on_cpu(setup: Setup, tokens: float, rate: float | None) -> Interval | None:
    """A measured forward rate (head on every token) times what training does more."""
    if not rate:
        return None
    factor = training_flops(setup) / forward_flops(setup, labels=1.0)
    seconds = tokens / rate * factor
    return Interval(seconds * CPU_SPREAD[0], seconds * CPU_SPREAD[1])


def _on_gpu(setup: Setup, tokens: float, peak: float, bandwidth: float) -> Interval:
    micro_batches = ceil(tokens / setup.micro_batch_tokens)
    flops = training_flops(setup) * setup.micro_batch_tokens
    passes = 3 if setup.checkpointing else 2
    read = passes * memory.weights(setup).bytes / bandwidth
    low_share, high_share = _efficiency(setup)
    layers = setup.shape.layers
    fast = sqrt((LAUNCH_SECONDS[0] * layers) ** 2 + (flops / (high_share * peak) + read) ** 2)
    slow = sqrt((LAUNCH_SECONDS[1] * layers) ** 2 + (flops / (low_share * peak) + read) ** 2)
    return Interval(micro_batches * fast * UNPROBED[0], micro_batches * slow * UNPROBED[1])


def _efficiency(setup: Setup) -> tuple[float, float]:
    if setup.base_is_nf4:
        return NF4_EFFICIENCY
    return LORA_EFFICIENCY if isinstance(setup.adaptation, Lora) else FULL_EFFICIENCY


def rent_usd(seconds: Interval, card: Gpu) -> Interval | None:
    """What that time costs at the rents of the catalogue (`card.price_date`), in USD; None without a quote."""
    if card.price_low_usd is None or card.price_high_usd is None:
        return None
    hour = 3600
    return Interval(seconds.low / hour * card.price_low_usd, seconds.high / hour * card.price_high_usd)
