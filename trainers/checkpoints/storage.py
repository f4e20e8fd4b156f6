"""The seam to the disk: whole files, written by ourselves so that the error number survives, and flushed.

`write`, `fsync` and `rename` are names of this module, so that a test can make each of them fail.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from os import fsync, rename, write
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Written:
    """A file on the disk: its size, and its sum (sha256, hex)."""

    bytes: int
    sha256: str


def write_file(path: Path, blocks: Iterable[bytes]) -> Written:
    """Write a new file and flush it to the disk.

    Raises:
        OSError: The disk did not take all of it.
    """
    total, sum_ = 0, hashlib.sha256()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        for block in blocks:
            sum_.update(block)
            total += len(block)
            _write_all(file, block)
        fsync(file)
    finally:
        os.close(file)
    return Written(total, sum_.hexdigest())


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` all at once: a reader sees the old file or the new one, never a part.

    Raises:
        OSError: The disk did not take it; the old file is as it was.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    try:
        write_file(part, [data])
        rename(part, path)  # noqa: PTH104  (a name of this module, see above)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def move_directory(source: Path, target: Path) -> None:
    """Give a finished directory its name, and make that durable."""
    sync_directory(source)
    rename(source, target)  # noqa: PTH104  (as above)
    sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    """Flush the names in a directory."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(file)
    finally:
        os.close(file)


def sync_tree(path: Path) -> None:
    """Flush every file below `path`, which a library wrote."""
    for file in sorted(path.rglob("*")):
        if file.is_file():
            with file.open("rb") as handle:
                fsync(handle.fileno())


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[write(file, rest) :]
