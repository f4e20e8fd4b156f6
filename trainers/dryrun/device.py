"""What differs between this computer and the GPU that a dry run stands for, where the difference is memory."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks

from trainers.memory.live import Recorder


@contextmanager
def as_on_cuda(recorder: Recorder) -> Iterator[None]:
    """Inside, tensors say that they are on a GPU, and what GPUs do otherwise is done their way.

    * `is_cuda` is true, so attention takes the kernel of variable length.
    * Dropout keeps a mask of one byte an element, as its CUDA kernel does; on a CPU it is as wide as the input.
    * Modules that are cast get new parameters: torch would swap them in place, which weak references forbid.
    * What is offloaded waits in the computer's memory, and is not counted there.
    * Paged moments of bitsandbytes are the driver's memory, and not counted.
    """
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings(
            "ignore", "Accessing the data pointer of FakeTensor"
        )  # whoever copies a layer
        stack.enter_context(patch.object(FakeTensor, "is_cuda", property(lambda _: True), create=True))
        stack.enter_context(patch.object(nn.Module, "_apply", _cast))
        stack.enter_context(patch.object(nn.functional, "dropout", _dropout))
        stack.enter_context(patch.object(save_on_cpu, "__init__", _away(recorder)))
        if find_spec("bitsandbytes") is not None:
            kernels = import_module("bitsandbytes.functional")
            stack.enter_context(patch.object(kernels, "get_paged", _paged(recorder)))
            stack.enter_context(patch.dict(kernels.name2qmap, clear=True))  # tables it keeps for good
        yield


def _cast(self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply` without swapping."""
    for child in self.children() if recurse else ():
        child._apply(fn)  # type: ignore[no-untyped-call]  # torch does not annotate it
    for name, weight in self._parameters.items():
        if weight is not None:
            with torch.no_grad():
                cast = fn(weight)
            if cast is not weight:
                self._parameters[name] = nn.Parameter(cast, weight.requires_grad)
    for name, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[name] = fn(buffer)
    return self


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`torch.nn.functional.dropout` by the fused kernel."""
    del inplace
    return torch.native_dropout(x, p, True)[0] if training and p > 0 else x


def _away(recorder: Recorder) -> Callable[..., None]:
    """`save_on_cpu.__init__` whose copies do not count; back on the device they do."""

    def init(self: save_on_cpu, *_: object, **__: object) -> None:
        def pack(tensor: Tensor) -> Tensor:
            with recorder.elsewhere():
                return tensor.clone()

        saved_tensors_hooks.__init__(self, pack, torch.clone)

    return init


def _paged(recorder: Recorder) -> Callable[..., Tensor]:
    def made(*shape: int, dtype: torch.dtype = torch.float32, device: Any = None) -> Tensor:  # noqa: ANN401  (as theirs)
        del device
        with recorder.elsewhere():
            return torch.empty(shape, dtype=dtype)

    return made
