"""What a training needed at its peak.

On a GPU that is `torch.cuda.max_memory_allocated`. On a CPU it is the peak resident set while training minus the
resident set just before the model was loaded: the growth that the model, its gradients, the optimizer and the
activations caused, without the interpreter and its libraries.
"""

import ctypes
import gc
import sys
from contextlib import suppress
from typing import Final, Literal

import torch

from trainers.memory.resident import Watch, rss

Quantity = Literal["cuda_max_allocated", "cpu_peak_rss_delta"]

WARM_UP: Final = 256
"""Side of the matrices that wake thread pools and buffers before the first reading."""


class Peak:
    """The peak of one device between `start` and `read`.

    Made just before the model is loaded: the resident set of that moment is what a CPU measurement subtracts.
    """

    def __init__(self, device: torch.device) -> None:
        self.quantity: Quantity = "cuda_max_allocated" if device.type == "cuda" else "cpu_peak_rss_delta"
        self._device = device
        _warm_up()
        _trim()
        self._before = rss()
        self._watch: Watch | None = None

    def start(self) -> None:
        """Forget every peak so far."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            _trim()
            self._watch = Watch()

    def read(self) -> int:
        """Bytes at the peak since `start`."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return max(0, (self._watch.read() if self._watch else rss()) - self._before)


def _warm_up() -> None:
    """Let the libraries take now what they take once: BLAS buffers, thread pools, autograd's engine."""
    x = torch.ones(WARM_UP, WARM_UP, requires_grad=True)
    (x @ x).sum().backward()  # type: ignore[no-untyped-call]  # torch does not annotate it


def _trim() -> None:
    """Give free heap pages back, so that what was used before does not count as used now."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # musl has no malloc_trim
            ctypes.CDLL(None).malloc_trim(0)
