"""What is known of GPUs, and what this computer has. Never through torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from advisor.catalog import devices
from advisor.catalog.devices import Device, available_memory
from advisor.catalog.tables import rows
from advisor.errors import AdvisorError, BadValue, UnknownName
from advisor.units import GIB, MIB
from recipes.exits import Exit
from recipes.words import N_

USABLE_SHARE: Final = 0.95
"""What a program can have of a card's size where nobody measured it: below the 0.956 of an RTX 4090 and the
0.964 of an H100, whose rows have measured figures."""
MAX_VRAM_GB: Final = 10_000
"""More memory than this is a slip of the keyboard: the largest accelerator has some hundred GB."""
AMPERE: Final = 8.0
"""The first compute capability with bf16 arithmetic (NVIDIA CUDA C++ programming guide)."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one computer with unified memory; None where no source says.

    `memory_gb` is the size on the box (GiB, as makers count it), `bandwidth_gbs` in 10^9 bytes a second,
    `bf16_tflops` dense with fp32 accumulation in 10^12 a second, prices in USD for an hour's rent, `power_watts`
    the limit of the board, `link_gbs` in 10^9 bytes a second to the other cards of a node (one direction).
    """

    name: str
    vendor: str
    kind: str
    arch: str = ""
    compute_capability: str | None = None
    memory_gb: float | None = None
    total_mib: int | None = None
    usable_mib: int | None = None
    bandwidth_gbs: float | None = None
    bf16_tflops: float | None = None
    tflops_note: str = ""
    power_watts: float | None = None
    power_source: str = ""
    link_gbs: float | None = None
    link_source: str = ""
    price_low_usd: float | None = None
    price_high_usd: float | None = None
    price_date: str | None = None
    price_source: str = ""
    memory_source: str = ""
    verified: bool = False
    notes: str = ""
    source: str = ""
    checked: date | None = None

    @property
    def usable_bytes(self) -> int | None:
        """What a program can have: measured where somebody did, else `USABLE_SHARE` of the size."""
        if self.usable_mib is not None:
            return self.usable_mib * MIB
        return None if self.memory_gb is None else int(self.memory_gb * GIB * USABLE_SHARE)

    @property
    def has_bf16(self) -> bool:
        """True unless the card is known to be older than Ampere."""
        return self.compute_capability is None or float(self.compute_capability) >= AMPERE


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a run can have: `count` devices with `usable_bytes` each.

    `forward_tokens_per_second` is a measurement on this machine with the model in question (CPU only); `note`
    is a message id that says what a reader must know, with `{gpu}` for the name.
    """

    kind: Literal["cuda", "cpu"]
    name: str
    usable_bytes: int
    gpu: Gpu | None = None
    count: int = 1
    forward_tokens_per_second: float | None = None
    note: str = ""
    other: str = ""
    """Accelerators that are here too and not used, in a few words."""

    @property
    def has_bf16(self) -> bool:
        """Whether 16-bit brain floats are fast there; on a CPU they are not taken for granted."""
        return self.kind == "cuda" and (self.gpu is None or self.gpu.has_bf16)


class UnknownMemory(AdvisorError):
    """A GPU whose memory no source of ours tells."""

    exit_code = Exit.USAGE
    code = "P0103"


@cache
def gpus() -> Mapping[str, Gpu]:
    """Every GPU of the catalogue, by name."""
    return MappingProxyType({row["name"]: Gpu(**row) for row in rows("gpus", "gpu")})


def gpu(name: str) -> Gpu:
    """Find a GPU by name, in any case, with or without the maker's words before it ("4090", "H100").

    Raises:
        UnknownName: No row has that name; the nearest names are told.
    """
    wanted = _words(name)
    has_number = any(c.isdigit() for c in name)
    near = [key for key in gpus() if wanted and wanted <= _words(key)]
    if not (near and (has_number or len(near) == 1)):
        raise UnknownName(N_("GPU"), name, gpus(), listing="advisor gpus")
    return gpus()[min(near, key=lambda key: len(_words(key)))]


_IDLE_WORDS: Final = frozenset({"nvidia", "amd", "tesla", "hbm2", "hbm2e", "hbm3", "hbm3e"})
"""Words that drivers add to a name and that tell no two of our rows apart."""


def _words(name: str) -> frozenset[str]:
    return frozenset(name.casefold().replace("/", " ").replace("-", " ").split()) - _IDLE_WORDS


def hardware(vram_gb: float | None = None, gpu: str | None = None) -> Hardware:
    """Describe the hardware that a person names; without a name or a size, what this computer has.

    Args:
        vram_gb: Size of the memory on the box in GB; wins over the catalogue's.
        gpu: A name of the catalogue.

    Raises:
        BadValue: A size that is not above 0, or absurd.
        UnknownName, UnknownMemory: A GPU that the catalogue does not have, or without a size.
    """
    if vram_gb is None and gpu is None:
        return detect()
    if vram_gb is not None and not 0 < vram_gb <= MAX_VRAM_GB:
        raise BadValue(
            N_("the memory of a card must be above 0 and at most {most} GB, not {value}"),
            remedy=N_("give the size in GB, such as --vram 24"),
            value=vram_gb,
            most=MAX_VRAM_GB,
        )
    card = _named(gpu)
    usable = int(vram_gb * GIB * USABLE_SHARE) if vram_gb is not None else card and card.usable_bytes
    if not usable:
        raise UnknownMemory(
            N_("no source of ours tells the memory of {gpu}"),
            remedy=N_("say it with --vram GB"),
            gpu=card.name if card else "",
        )
    name = card.name if card else f"{vram_gb:g} GB"
    return Hardware("cuda", name, usable, card, note=_note(card))


def _named(name: str | None) -> Gpu | None:
    return None if name is None else gpu(name)


def _note(card: Gpu | None) -> str:
    if card is None or card.vendor == "NVIDIA":
        return ""
    if card.vendor == "Apple":
        return N_(
            "{gpu}: the built-in trainer does not use Apple GPUs; figures are for a CUDA card of that size"
        )
    return N_(
        "{gpu}: the built-in trainer was not tested on AMD cards; figures assume that ROCm behaves as CUDA"
    )


def detect() -> Hardware:
    """Describe this computer: its NVIDIA GPUs as the driver tells them, else its CPU and free memory."""
    return _nvidia() or _cpu()


def _nvidia() -> Hardware | None:
    """The first device, and how many there are like it; of their free memory the least counts."""
    found = devices.nvidia()
    if not found:
        return None
    first = found[0]
    alike = [device for device in found if device.name == first.name and device.slice == first.slice]
    return Hardware(
        kind="cuda",
        name=first.name,
        usable_bytes=min(device.free_bytes for device in alike),
        gpu=None if first.slice else _row(first.name),
        count=1 if first.slice else len(alike),
        note=_seen(first),
    )


def _seen(device: Device) -> str:
    if device.slice:
        return N_("{gpu}: a slice (MIG) of a card; the rates of the whole card say nothing about it")
    if device.unified:
        return N_("{gpu}: its memory is the computer's; what other programs take is missing here")
    return ""


def _row(name: str) -> Gpu | None:
    """The row that the driver's name means, or None: a neighbour's rates would be a guess."""
    try:
        return gpu(name)
    except UnknownName:
        return None


def _cpu() -> Hardware:
    free = available_memory()
    return Hardware("cpu", f"CPU ({os.cpu_count() or 1} cores)", free, note=_other_gpu(), other=_other())


def _other_gpu() -> str:
    if devices.has_nvidia_driver():
        return N_(
            "an NVIDIA driver is here, but no GPU answers: install finetune-advisor[gpu] to ask it, "
            "or say --gpu or --vram; the CPU is assumed"
        )
    if devices.amd() or Path("/dev/kfd").exists():
        return N_(
            "an AMD GPU was found; the built-in trainer was not tested there, so the CPU is assumed "
            "(--vram GB plans for a card of its size)"
        )
    if devices.is_apple_silicon():
        return N_("Apple GPUs are not used by the built-in trainer; the CPU is assumed")
    return ""


def _other() -> str:
    """The accelerators that are here and not used."""
    if sizes := devices.amd():
        return ", ".join(f"AMD GPU, {size / GIB:.1f} GiB" for size in sizes)
    return "Apple GPU" if devices.is_apple_silicon() else ""
