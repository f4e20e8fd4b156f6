"""Rows on disk: JSON Lines, written whole or not at all, and known by their sum."""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import ValidationError

from advisor.errors import DatasetError, NoRoom
from advisor.reading import whole
from recipes.rows import Row
from recipes.words import N_

_CHUNK: Final = 2**20
MAX_BYTES: Final = 2**30
"""Rows that were split by hand are read as a whole: 1 GiB, as for other files that are."""
_LINE_SEPARATORS: Final = (
    ("\u0085", "\\u0085"),
    ("\u2028", "\\u2028"),
    ("\u2029", "\\u2029"),
    ("\x7f", "\\u007f"),
)
"""Legal inside JSON, but line breaks to some readers."""


def write(path: Path, rows: Iterable[Row]) -> str:
    """Write `rows` to `path`, one a line, and return the sha256 (hex) of the file.

    Raises:
        NoRoom: The disk is full or the place may not be written; an older file at `path` is then untouched.
    """
    return write_whole(path, map(line_of, rows))


def sum_of(rows: Iterable[Row]) -> str:
    """The sha256 (hex) of the file that `write` would make of these rows."""
    total = hashlib.sha256()
    for row in rows:
        total.update(line_of(row))
    return total.hexdigest()


def write_whole(path: Path, parts: Iterable[bytes]) -> str:
    """Write a file whole or not at all, durably, and return its sha256 (hex).

    Raises:
        NoRoom: As `write`.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".tmp")
    except OSError as error:
        raise no_room(path, error) from None
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            total = _poured(parts, file)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _settle(path.parent)
    except OSError as error:
        raise no_room(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)
    return total


def _poured(parts: Iterable[bytes], file: BinaryIO) -> str:
    """Write `parts` and wait until the disk has them; the sum of them all."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
        file.write(part)
    file.flush()
    os.fsync(file.fileno())
    return total.hexdigest()


def line_of(row: Row) -> bytes:
    """One row as one line of strict JSON in UTF-8."""
    text = json.dumps(row.model_dump(mode="json", exclude_none=True), ensure_ascii=False, allow_nan=False)
    for mark, spelt in _LINE_SEPARATORS:
        text = text.replace(mark, spelt)
    return text.encode() + b"\n"


def sha256(path: Path) -> str:
    """The sum (hex) of a file."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def read_rows(path: Path) -> tuple[Row, ...]:
    """Read rows that `write` wrote.

    Raises:
        DatasetError: The file cannot be read, or a line of it is no row.
    """
    try:
        lines = whole(path, MAX_BYTES).split(b"\n")
    except OSError as error:
        raise DatasetError(
            N_("the rows cannot be read: {reason}"),
            remedy=N_("write them anew with `advisor data convert` or `advisor recipe`"),
            where=str(path),
            reason=error.strerror or type(error).__name__,
        ) from None
    return tuple(_row(line, path, number) for number, line in enumerate(lines, start=1) if line.strip())


def _row(line: bytes, path: Path, number: int) -> Row:
    try:
        return Row.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DatasetError(
            N_("this line is no row: {key}: {reason}"),
            remedy=N_("write the rows anew with `advisor data convert` or `advisor recipe`"),
            where=f"{path}:{number}",
            key=".".join(map(str, first["loc"])),
            reason=first["msg"],
        ) from None


def _settle(directory: Path) -> None:
    """Make a rename durable; some file systems and systems cannot, and then it is as good as it gets."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def folder(path: Path) -> Path:
    """Make a directory, and those above it, where they are not there; the directory.

    Raises:
        NoRoom: The disk, a permission or the path itself stands in the way.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise no_room(path, error) from None
    except RecursionError:  # how `mkdir` ends on a path of a thousand folders
        raise no_room(path, OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))) from None
    return path


def no_room(path: Path, error: OSError) -> NoRoom:
    """What to say where the operating system refused to write."""
    return NoRoom(
        N_("the file cannot be written: {reason}"),
        remedy=N_("free some space or choose another place; nothing was changed"),
        where=str(path),
        reason=error.strerror or type(error).__name__,
    )
