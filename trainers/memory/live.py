"""Tensors without memory whose storages are counted: what a program would take, on a computer that has nothing of it."""

import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from trainers.memory.scratch import SCRATCH
from trainers.memory.trace import Entered, Gave, Took

_ITEM = torch.ops.aten._local_scalar_dense.default
_ZERO = {torch.bool: False}


class Recorder(FakeTensorMode):  # type: ignore[no-untyped-call]  # torch's `__init_subclass__`
    """Inside, every tensor is fake; `trace` tells in order what storages were made and freed.

    A storage counts when an operation first gives it back, and until its last tensor is gone; views share it.
    Whoever asks for a value gets 0 (False), so a program that looks at its loss goes on.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.trace: list[Took | Gave | Entered] = []
        self._numbers: dict[int, int] = {}
        self._taken = 0
        self._elsewhere = False
        self._depth = 0

    def enter(self, place: Hashable) -> None:
        """From here on, what happens happens in `place`."""
        self.trace.append(Entered(place))

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Inside, tensors are made in memory of the computer, or in the driver's, and do not count."""
        self._elsewhere = True
        try:
            yield
        finally:
            self._elsewhere = False

    def take(self, size: int, by: str) -> int:
        """Count memory that no tensor shows; its number, for `give`."""
        self._taken += 1
        self.trace.append(Took(self._taken, size, by))
        return self._taken

    def give(self, storage: int) -> None:
        """Memory is free again."""
        self.trace.append(Gave(storage))

    def __torch_dispatch__(  # the signature is torch's
        self,
        func: Any,  # noqa: ANN401
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = MappingProxyType({}),
    ) -> Any:  # noqa: ANN401
        """Run one operation on shapes alone, and count what it gives back."""
        if func is _ITEM:
            return _ZERO.get(args[0].dtype, 0.0 if args[0].dtype.is_floating_point else 0)
        name: str = func._schema.name
        self._depth += 1
        try:
            out = self.dispatch(func, types, args, kwargs)
        finally:
            self._depth -= 1
        if self._depth:  # inside of an operation that fake tensors take apart, and a GPU does not
            return out
        for one in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(one, FakeTensor):
                self._count(one, name)
        pieces: Callable[..., tuple[int, ...]] | None = SCRATCH.get(name)
        if pieces is not None:
            for storage in [self.take(size, name) for size in pieces(*args)]:
                self.give(storage)
        return out

    def _count(self, tensor: Tensor, name: str) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._numbers:
            return
        number = self._numbers[key] = 0 if self._elsewhere else self.take(storage.nbytes(), name)
        weakref.finalize(storage, self._freed, key, number)

    def _freed(self, key: int, number: int) -> None:
        del self._numbers[key]
        if number:
            self.give(number)
