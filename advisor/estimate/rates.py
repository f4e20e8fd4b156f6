"""How fast devices and trainers are, as data (`rates.toml`)."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final, Literal

from advisor.estimate.profiles import NATIVE, Profile

Kernels = Literal["eager", "fused"]

_STACKS: Final[Mapping[str, str]] = MappingProxyType({"liger": "foak", "unsloth": "foak"})
"""Profiles that are as fast as another stack; the rest follow from their names."""


COMPILED: Final = "compiled"
FUSED: Final = "foak"
FUSED_WITH: Final = frozenset({"foak", "fused_linear"})
"""A stack of fused kernels, and the losses that such trainers have where those are on."""


@dataclass(frozen=True, slots=True)
class Device:
    """Shares of what a maker publishes; see the head of `rates.toml`."""

    matmul_share: float
    half_speed_tokens: float
    attention_share: float
    stream_share: float
    eager_share: float
    overlap: float
    spread: float
    unmeasured_spread: float
    measured_arch: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class Operations:
    """How many kernels the host launches, by what for."""

    block: float
    adapter: float
    quantised: float
    expert: float
    backward: float
    source: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """What devices can send each other, in 10^9 bytes a second, and what the host adds."""

    link_gbs: tuple[float, float]
    node_gbs: tuple[float, float]
    link_share: float
    hidden_share: tuple[float, float]
    block_seconds: Mapping[str, float]
    source: str


@dataclass(frozen=True, slots=True)
class Stack:
    """What a trainer does beyond the arithmetic, and what its host takes for one kernel (low, usual, high)."""

    name: str
    norm: Kernels
    rotary: Kernels
    gate: Kernels
    launch_us: tuple[float, float, float]
    adapters: Literal["function", "stock"]
    source: str


@cache
def _table() -> Mapping[str, Any]:
    text = files("advisor.estimate").joinpath("rates.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def device() -> Device:
    """Shares of a GPU's published rates."""
    row = _table()["device"]
    return Device(**{**row, "measured_arch": tuple(row["measured_arch"])})


@cache
def operations() -> Operations:
    """Kernels by what they are for."""
    return Operations(**_table()["operations"])


@cache
def exchange() -> Exchange:
    """Between devices."""
    row = _table()["exchange"]
    pairs = ("link_gbs", "node_gbs", "hidden_share")
    return Exchange(**{**row, **{key: tuple(row[key]) for key in pairs}})


@cache
def power_share() -> tuple[float, float]:
    """Of a board's limit, while it trains: low and high."""
    low, high = _table()["power"]["share"]
    return low, high


@cache
def cpu_spread() -> tuple[float, float]:
    """Of a CPU's time, against its measured forward pass: low and high."""
    low, high = _table()["cpu"]["spread"]
    return low, high


@cache
def stacks() -> Mapping[str, Stack]:
    """Every stack, by name."""
    rows = (Stack(**{**row, "launch_us": tuple(row["launch_us"])}) for row in _table()["stack"])
    return MappingProxyType({row.name: row for row in rows})


def loss_bytes(profile: Profile) -> float:
    """Bytes that the loss reads and writes for each token and vocabulary entry; a compiled one as a fused one."""
    known: Mapping[str, float] = _table()["loss_bytes"]
    return known[COMPILED if profile.compiled else profile.head.loss]


def stack(profile: Profile) -> Stack:
    """How fast the trainer of a profile is: its own row, else the one of the trainers that are built like it."""
    known, name = stacks(), COMPILED if profile.compiled else profile.name
    name = next((ours for theirs, ours in _STACKS.items() if name.startswith(theirs)), name)
    fitting = next((row for key, row in known.items() if name.startswith(key)), None)
    if fitting and fitting.name == FUSED and profile.head.loss not in FUSED_WITH:
        fitting = None  # a trainer that fuses its norms fuses its loss, too: here its kernels are off
    return fitting or known[NATIVE if profile.loss == "chunked" else "hf-trainer"]
