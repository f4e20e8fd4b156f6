"""What measurements share: versions, the machine in words, and a count of the bytes of tensors that are alive."""

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def versions(*packages: str) -> dict[str, str | None]:
    """The installed version of each package; None where there is none."""
    return dict(_versions(packages))


def _versions(packages: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    for name in packages:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, None


def machine() -> str:
    """What it was measured on, without the name of anything."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} cores, no GPU"


class Live(TorchDispatchMode):
    """Counts storages that operations make inside, on any device, and the most that was alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, int] = {}

    def __torch_dispatch__(  # the signature is torch's
        self,
        func: Any,  # noqa: ANN401
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Run an operation, and count what it gives back."""
        out = func(*args, **(kwargs or MappingProxyType({})))
        given = {
            t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)
        }
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage(), given)
        return out

    def _count(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen or key in given:
            return
        self._seen[key] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.now -= self._seen.pop(key)
