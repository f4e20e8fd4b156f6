"""Every way of running out of memory, told from other errors, with what the device knows at that moment."""

import re
from dataclasses import dataclass
from typing import Final

import torch

from trainers.errors import CPU_FULL

UNITS: Final = {"bytes": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_ASKED: Final = re.compile(r"tried to allocate ([\d.]+) (bytes|[KMGT]iB)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shortage:
    """What was asked for, and what the device had; bytes, and None where nobody knows.

    `alloc` is what tensors held, `reserved` what torch's allocator held for them, `free` what the device had left
    for anybody.
    """

    reason: str
    requested: int | None
    alloc: int | None
    reserved: int | None
    free: int | None


def shortage(error: BaseException) -> Shortage | None:
    """The facts of an error that says that memory is full, or None for another one.

    Ask while the error is handled: afterwards its tensors are gone, and the figures say little.
    """
    text = str(error)
    if not (isinstance(error, torch.OutOfMemoryError | MemoryError) or CPU_FULL in text):
        return None
    asked = _ASKED.search(text)
    requested = int(float(asked[1]) * UNITS[asked[2].lower()]) if asked else None
    reason = text.partition("\n")[0][:300]
    if not torch.cuda.is_available():
        return Shortage(reason, requested, None, None, None)
    free = torch.cuda.mem_get_info()[0]
    return Shortage(reason, requested, torch.cuda.memory_allocated(), torch.cuda.memory_reserved(), free)
