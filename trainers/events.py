"""`events.jsonl`: what happened, as it happens; append-only, one writer, one strict JSON object a line."""

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from recipes.report import EVENTS_VERSION

LINE_BYTES: Final = 4096
"""A line is one write of at most this size: a reader never sees half of one on a local disk."""
BEAT_SECONDS: Final = 5.0
"""With nothing written for so long, a heartbeat says that the process lives."""
TAIL_BYTES: Final = 2 * LINE_BYTES

Clock = Callable[[], float]


class Log(Protocol):
    """What a run tells of itself."""

    def emit(self, kind: str, **fields: object) -> None:
        """Say that `kind` happened; `fields` are JSON values, and numbers that are not finite become null."""

    def now(self) -> Mapping[str, object]:
        """How far the run is: `step` and `phase`."""


class Silence:
    """The log of a process that is not the main one: events have one writer."""

    def emit(self, kind: str, **fields: object) -> None:
        """Say nothing."""

    def now(self) -> Mapping[str, object]:
        """Know nothing."""
        return {}


class Events:
    """The log of the main process, with a thread that beats when there is nothing to say.

    `seq` goes on where the file ends. A torn last line (the writer was killed) is cut off: readers take whole
    lines only, so none has seen it.
    """

    def __init__(self, path: Path, *, rss: Callable[[], int], beat_seconds: float = BEAT_SECONDS) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._seq = _continue(self._file)
        self._lock = threading.Lock()
        self._written = time.monotonic()
        self._rss, self._beat_seconds = rss, beat_seconds
        self._state: dict[str, object] = {"step": 0, "phase": "start"}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def emit(self, kind: str, **fields: object) -> None:
        """Append one line.

        Raises:
            OSError: The disk did not take it.
        """
        with self._lock:
            self._remember(kind, fields)
            line = _line(self._seq, kind, fields)
            if os.write(self._file, line) != len(line):
                raise OSError(
                    28, "the line was written in part only"
                )  # ENOSPC: a local disk does not split it
            self._seq += 1
            self._written = time.monotonic()

    def now(self) -> Mapping[str, object]:
        """How far the run is: `step`, the last one that was told, and `phase`."""
        return dict(self._state)

    def close(self) -> None:
        """Stop the heartbeat and close the file; nothing may be said after the outcome."""
        self._closed.set()
        self._thread.join()
        os.close(self._file)

    def _remember(self, kind: str, fields: Mapping[str, object]) -> None:
        if kind == "phase":
            self._state["phase"] = fields["name"]
        elif kind == "step":
            self._state["step"] = fields["step"]

    def _beat(self) -> None:
        while not self._closed.wait(self._beat_seconds / 5):
            if time.monotonic() - self._written >= self._beat_seconds:
                try:
                    self.emit("heartbeat", **self._state, rss=self._rss())
                except OSError:  # the main thread meets the same disk, and says so
                    return


@contextmanager
def opened(path: Path, *, rss: Callable[[], int]) -> Iterator[Events]:
    """The log at `path`, closed at the end."""
    events = Events(path, rss=rss)
    try:
        yield events
    finally:
        events.close()


def _continue(file: int) -> int:
    """Cut a torn last line off and return the next `seq`."""
    size = os.fstat(file).st_size
    tail = os.pread(file, TAIL_BYTES, max(0, size - TAIL_BYTES))
    whole = tail.rfind(b"\n") + 1
    if whole < len(tail):
        os.ftruncate(file, size - len(tail) + whole)
    for line in reversed(tail[:whole].splitlines()):
        try:
            return int(json.loads(line)["seq"]) + 1
        except (ValueError, KeyError, TypeError):
            continue
    return 0


def _line(seq: int, kind: str, fields: Mapping[str, object]) -> bytes:
    """One event as bytes; texts are cut until it fits into `LINE_BYTES`."""
    head = {
        "v": EVENTS_VERSION,
        "seq": seq,
        "t": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "mono": round(time.monotonic(), 6),
        "type": kind,
    }
    limit = LINE_BYTES
    while True:
        body = json.dumps({**head, **_strict_fields(fields, limit)}, allow_nan=False) + "\n"
        if len(body) <= LINE_BYTES or limit == 1:  # ASCII only: characters are bytes
            return body.encode()
        limit //= 2


def _strict_fields(fields: Mapping[str, object], limit: int) -> dict[str, object]:
    return {name: _strict(value, limit) for name, value in fields.items()}


def _strict(value: object, limit: int) -> object:
    """`value` as strict JSON has it: no NaN, no infinity, no text or list longer than `limit`."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case str():
            return value if len(value) <= limit else value[:limit] + "..."
        case Mapping():
            return {str(name): _strict(one, limit) for name, one in value.items()}
        case list() | tuple():
            return [_strict(one, limit) for one in value[:limit]]
        case _:
            return value
