"""Read a whole small file that a person named: it never waits for a writer and never fills the memory."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 64 * 2**20
"""Facts, answers, reports and recipes are pages; 64 MiB is far beyond the largest report with its rows."""


def whole(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of `path`. A pipe that somebody writes to is read to its end, as `<(command)` needs.

    Raises:
        OSError: It cannot be read, or holds more than `most` bytes, as a device does that never ends.
    """
    # without O_NONBLOCK, opening a pipe that nobody writes to waits for ever
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        os.set_blocking(file.fileno(), True)
        found = file.read(most + 1)
    if len(found) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return found


def text(path: Path, most: int = MOST_BYTES) -> str:
    """The content of `path` as UTF-8 text.

    Raises:
        OSError: As `whole`.
        UnicodeDecodeError: It is not UTF-8.
    """
    return whole(path, most).decode("utf-8")


def is_directory(path: Path) -> bool:
    """Whether `path` is a directory; no, where the system refuses even the question (a name of 300 letters)."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_plain(path: Path) -> bool:
    """Whether `path` is a file with an end, which can be read twice: no pipe, no device, no directory.

    Raises:
        OSError: There is nothing of that name, or nobody may look.
    """
    return stat.S_ISREG(path.stat().st_mode)
