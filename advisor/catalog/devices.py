"""What this computer has, as the driver, sysfs and the kernel tell it. Never through torch; everything may be missing.

NVIDIA: NVML, if the extra `gpu` (nvidia-ml-py) is installed. AMD: sysfs of the amdgpu driver. Apple: the kernel's memory.
"""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Final, TypeVar

DRM: Final = Path("/sys/class/drm")
NVIDIA_DRIVER: Final = Path("/proc/driver/nvidia/version")
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator, or one MIG slice of it. Bytes; `unified`: its memory is the computer's."""

    name: str
    free_bytes: int
    slice: bool = False
    unified: bool = False


def nvidia() -> tuple[Device, ...]:
    """The NVIDIA devices that a program would see, with the memory that is free now; none without NVML or a driver."""
    try:
        import pynvml as nvml  # noqa: PLC0415  (the extra `gpu`: only a computer with NVIDIA's driver has a use for it)
    except ImportError:
        return ()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:  # no driver
        return ()
    try:
        return tuple(device for handle in _visible(nvml) for device in _slices(nvml, handle))
    except nvml.NVMLError:  # a driver that does not answer
        return ()
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _visible(nvml: ModuleType) -> Iterator[object]:
    """Handles of the devices that CUDA_VISIBLE_DEVICES leaves, in its order; after a name that is none, nothing."""
    wanted = os.environ.get(VISIBLE)
    if wanted is None:
        yield from (nvml.nvmlDeviceGetHandleByIndex(i) for i in range(int(nvml.nvmlDeviceGetCount())))
        return
    for word in (word.strip() for word in wanted.split(",")):
        handle = _asked(nvml, partial(_handle, nvml, word))
        if handle is None:
            return
        yield handle


def _handle(nvml: ModuleType, word: str) -> object:
    if word.isascii() and word.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(word))
    return nvml.nvmlDeviceGetHandleByUUID(word) if word.startswith(("GPU-", "MIG-")) else None


def _slices(nvml: ModuleType, handle: object) -> Iterator[Device]:
    """The device itself, or its MIG slices where it is cut into some."""
    mode = _asked(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle))
    if not mode or not mode[0]:
        yield _device(nvml, handle)
        return
    for number in range(int(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))):
        part = _asked(nvml, partial(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number))
        if part is not None:
            yield _device(nvml, part, part_of=handle)


def _device(nvml: ModuleType, handle: object, part_of: object = None) -> Device:
    name = _asked(nvml, lambda: nvml.nvmlDeviceGetName(handle)) or nvml.nvmlDeviceGetName(part_of)
    memory = _asked(nvml, lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).free))
    unified = memory is None  # Grace Blackwell and Jetson have no memory of their own, and NVML says so
    return Device(
        name=name.decode() if isinstance(name, bytes) else str(name),
        free_bytes=available_memory() if memory is None else memory,
        slice=part_of is not None
        or _asked(nvml, lambda: bool(nvml.nvmlDeviceIsMigDeviceHandle(handle)))
        or False,
        unified=unified,
    )


def _asked(nvml: ModuleType, question: Callable[[], T]) -> T | None:
    """The answer, or None where this device or driver has none."""
    try:
        return question()
    except nvml.NVMLError:
        return None


def has_nvidia_driver() -> bool:
    """Whether an NVIDIA driver is there, whoever can ask it."""
    return NVIDIA_DRIVER.exists() or shutil.which("nvidia-smi") is not None


def amd(drm: Path = DRM) -> tuple[int, ...]:
    """Memory in bytes of each AMD GPU that its driver lists."""
    found = []
    for path in sorted(drm.glob("card*/device/mem_info_vram_total")):
        with suppress(OSError, ValueError):
            found.append(int(path.read_text()))
    return tuple(found)


def is_apple_silicon() -> bool:
    """Whether this is a Mac whose GPU shares the computer's memory."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that a new process could have without swapping; the kernel's own estimate where there is one."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([free, *_limits()])


def _limits() -> list[int]:
    """The memory that a container (cgroup 2) still grants, if it has a limit."""
    root = Path("/sys/fs/cgroup")
    try:
        most, used = (root / "memory.max").read_text().strip(), (root / "memory.current").read_text().strip()
        return [max(0, int(most) - int(used))]
    except (OSError, ValueError):  # "max" is not a number: no limit
        return []
