"""How long training takes, and what it costs: operations, bytes and kernels against the rates of the hardware.

A micro-batch takes the device the sum of its matrix products, its attention and the bytes it streams, each at the
share of the published peak that such kernels reach; the host needs its time for every kernel it launches, and the
two run side by side. Several devices also exchange weights and gradients. Everything is an interval: rates are in
`rates.toml`, and where the card's own are not published there is a reason instead of a number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from advisor.catalog.gpus import Gpu, Hardware
from advisor.estimate import rates, shapes
from advisor.estimate.setup import Setup
from advisor.estimate.terms import Interval
from advisor.estimate.work import Work, forward_flops, micro_batch, step
from recipes.words import N_

GENERATES: Final = frozenset({"ppo", "grpo"})
"""Objectives whose time goes into answers that are generated."""
HOUR: Final = 3600
KWH: Final = 3.6e6

Limit = Literal["arithmetic", "bandwidth", "launches", "exchange"]


@dataclass(frozen=True, slots=True)
class Untimed:
    """Why there is no time: a message id with `{name}` places, and the values."""

    text: str
    values: Mapping[str, str | int | float]

    @property
    def total(self) -> None:
        """Seconds in all: there are none."""

    def __str__(self) -> str:
        return self.text.format(**self.values)


@dataclass(frozen=True, slots=True)
class Timing:
    """Time, energy and rent of a run, without loading and evaluation. Seconds, tokens a second, kWh, USD.

    `expected` is the likeliest time of one micro-batch; `limited_by` says what takes most of it. Tokens a second are
    those of all devices together. None where the catalogue has no power limit, or no dated quote.
    """

    expected: float
    micro_batch: Interval
    step: Interval
    total: Interval
    tokens_per_second: Interval
    limited_by: Limit
    energy_kwh: Interval | None = None
    rent_usd: Interval | None = None
    rent_date: str | None = None
    """Year and month of the quotes that the rent stands on."""


def timing(
    setup: Setup, hardware: Hardware, tokens: float, *, accumulation: int = 1, nodes: int = 1
) -> Timing | Untimed:
    """Predict the time of training on `tokens` tokens (all epochs together).

    Args:
        setup: What one device does in one micro-batch.
        hardware: Where; a card with published rates, or a CPU with a measured forward pass.
        tokens: Of all epochs, over all devices.
        accumulation: Micro-batches of one step.
        nodes: Computers that the setup's processes are spread over.
    """
    if setup.foreign or setup.objective in GENERATES:
        return Untimed(
            N_("how long {what} takes depends on what nobody measured"),
            {"what": setup.foreign.method.name if setup.foreign else setup.objective},
        )
    if hardware.kind == "cpu":
        return _on_cpu(setup, hardware, tokens, accumulation)
    card = hardware.gpu
    if card is None:
        return Untimed(
            N_("the card is known by its memory alone; name it with --gpu for a time"), {"gpu": hardware.name}
        )
    if not card.bf16_tflops or not card.bandwidth_gbs:
        return Untimed(
            N_("no source gives the 16-bit rate and the bandwidth of {gpu}, so no time"), {"gpu": card.name}
        )
    if setup.dtype == "float32":
        return Untimed(
            N_("nobody measured training in float32 on {gpu}, so there is no time"), {"gpu": card.name}
        )
    return _on_gpu(setup, card, tokens, accumulation, nodes)


def training_seconds(setup: Setup, tokens: float, hardware: Hardware) -> Interval | None:
    """Seconds to train on `tokens` tokens on one device; None where `timing` has a reason instead."""
    found = timing(setup, hardware, tokens)
    return found.total if isinstance(found, Timing) else None


# --- one device --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds of one micro-batch, by what takes them; `overlap` as in `rates.Device`."""

    arithmetic: float
    bandwidth: float
    launches: float
    overlap: float

    @property
    def seconds(self) -> float:
        """Host and device run side by side: nearly the larger of the two."""
        device, power = self.arithmetic + self.bandwidth, self.overlap
        return float((device**power + self.launches**power) ** (1 / power))


def parts(
    work: Work, setup: Setup, card: Gpu, *, launch_us: float, host_seconds: float, known: rates.Device
) -> Parts:
    """The seconds of one micro-batch on a card whose rates are published."""
    peak, bandwidth = (card.bf16_tflops or 0) * 1e12, (card.bandwidth_gbs or 0) * 1e9
    moe = setup.shape.moe
    together = setup.pass_tokens * (moe.active / moe.experts if moe else 1.0)
    slower = 1 + known.half_speed_tokens / together
    return Parts(
        arithmetic=work.matmul_flops * slower / (known.matmul_share * peak)
        + work.attention_flops / (known.attention_share * peak),
        bandwidth=work.stream_bytes / (known.stream_share * bandwidth)
        + work.eager_bytes / (known.eager_share * bandwidth),
        launches=work.launches * launch_us * 1e-6 + host_seconds,
        overlap=known.overlap,
    )


def _on_gpu(setup: Setup, card: Gpu, tokens: float, accumulation: int, nodes: int) -> Timing:
    known, work = rates.device(), micro_batch(setup)
    host = rates.exchange().block_seconds[setup.sharding] * gathers(setup)
    low, usual, high = (
        parts(work, setup, card, launch_us=us, host_seconds=host, known=known)
        for us in rates.stack(setup.profile).launch_us
    )
    spread = known.spread if card.arch in known.measured_arch else known.unmeasured_spread
    often, once = _exchanged(setup, card, nodes)
    micro = Interval(low.seconds / spread + often.low, high.seconds * spread + often.high)
    shards = setup.processes if setup.sharding != "none" else 1
    update = step(setup).stream_bytes / (known.stream_share * (card.bandwidth_gbs or 0) * 1e9) / shards
    one_step = Interval(
        accumulation * micro.low + update / spread + once.low,
        accumulation * micro.high + update * spread + once.high,
    )
    seen = setup.micro_batch_tokens * accumulation * setup.processes
    steps = max(1.0, tokens / seen)
    total = Interval(steps * one_step.low, steps * one_step.high)
    return Timing(
        expected=usual.seconds + update / accumulation + (often.low + often.high) / 2,
        micro_batch=micro,
        step=one_step,
        total=total,
        tokens_per_second=Interval(seen / one_step.high, seen / one_step.low),
        limited_by=_limit(usual, often),
        energy_kwh=energy_kwh(total, card, setup.processes),
        rent_usd=rent_usd(total, card, setup.processes),
        rent_date=card.price_date,
    )


def _limit(usual: Parts, exchanged: Interval) -> Limit:
    found: dict[Limit, float] = {
        "arithmetic": usual.arithmetic,
        "bandwidth": usual.bandwidth,
        "launches": usual.launches,
        "exchange": exchanged.high,
    }
    return max(found, key=lambda name: found[name])


def _on_cpu(setup: Setup, hardware: Hardware, tokens: float, accumulation: int) -> Timing | Untimed:
    """A measured forward rate (head on every token) times what training does more."""
    rate = hardware.forward_tokens_per_second
    if not rate:
        return Untimed(
            N_("nobody measured this model on this CPU; `advisor measure` does"), {"cpu": hardware.name}
        )
    each = micro_batch(setup).flops / forward_flops(setup) / rate
    fast, slow = rates.cpu_spread()
    micro, seen = Interval(each * fast, each * slow), setup.micro_batch_tokens * accumulation
    steps = tokens / seen
    one_step = Interval(accumulation * micro.low, accumulation * micro.high)
    return Timing(
        expected=each,
        micro_batch=micro,
        step=one_step,
        total=Interval(steps * one_step.low, steps * one_step.high),
        tokens_per_second=Interval(seen / one_step.high, seen / one_step.low),
        limited_by="arithmetic",
    )


# --- several devices ---------------------------------------------------------------------------------------------


def gathers(setup: Setup) -> float:
    """Blocks whose weights are collected in one micro-batch: forward, once more to recompute, backward."""
    return setup.shape.layers * (3.0 if setup.checkpointing else 2.0)


def _exchanged(setup: Setup, card: Gpu, nodes: int) -> tuple[Interval, Interval]:
    """Seconds that devices wait for each other, in every micro-batch and once a step (rings: (n - 1) / n each way)."""
    count = setup.processes
    if count == 1:
        return Interval(0.0, 0.0), Interval(0.0, 0.0)
    ring = (count - 1) / count
    moved = float(setup.trained * setup.trained_bytes)
    match setup.sharding:
        case "none":
            often, once = 0.0, 2 * ring * moved
        case "zero1" | "zero2":
            often, once = ring * moved, ring * moved
        case _:
            often, once = ring * (2 * _weight_bytes(setup) + moved), 0.0
    beside = count // nodes
    return _waited(often, card, nodes, beside), _waited(once, card, nodes, beside)


def _waited(size: float, card: Gpu, nodes: int, beside: int) -> Interval:
    """Seconds for `size` bytes: hidden behind arithmetic on fast links at best, in full on slow ones at worst."""
    known = rates.exchange()
    published = card.link_gbs
    low, high = (published * known.link_share,) * 2 if published else known.link_gbs
    if nodes > 1:
        low, high = min(low, known.node_gbs[0] / beside), min(high, known.node_gbs[1] / beside)
    best, worst = known.hidden_share
    return Interval(size / (high * 1e9) * (1 - best), size / (low * 1e9) * (1 - worst))


def _weight_bytes(setup: Setup) -> float:
    """What one gathering of all weights sends: 16 bits each, 4-bit blocks as they are stored."""
    everything = shapes.parameters(setup.shape)
    quantised = shapes.linear_weights(setup.shape) if setup.base_is_nf4 else 0
    return float((everything - quantised) * setup.element_bytes + quantised * 0.52)


# --- energy and money --------------------------------------------------------------------------------------------


def energy_kwh(seconds: Interval, card: Gpu, devices: int = 1) -> Interval | None:
    """Energy of the boards alone; None without a published power limit."""
    if card.power_watts is None:
        return None
    low, high = rates.power_share()
    watts = card.power_watts * devices
    return Interval(seconds.low * watts * low / KWH, seconds.high * watts * high / KWH)


def rent_usd(seconds: Interval, card: Gpu, devices: int = 1) -> Interval | None:
    """What that time costs at the rents of the catalogue (`card.price_date`), in USD; None without a quote."""
    if card.price_low_usd is None or card.price_high_usd is None:
        return None
    hours = Interval(seconds.low / HOUR * devices, seconds.high / HOUR * devices)
    return Interval(hours.low * card.price_low_usd, hours.high * card.price_high_usd)
