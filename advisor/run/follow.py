"""Follow a run by its events: whole lines only, from a byte offset, whoever writes them and however they end."""

import json
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from advisor.run.directory import ATTEMPT, OUTPUT, REPORT, Run, alive
from advisor.run.stall import Stall, Watch
from recipes.exits import Exit
from recipes.report import EVENTS_VERSION, Event

LAST: Final = frozenset({"done", "stopped", "error"})
"""After one of these nothing follows: the line is the outcome."""
KNOWN: Final = LAST | {
    *("start", "phase", "step", "heartbeat", "eval", "sample", "checkpoint", "changes_accepted"),
    *("progress", "packing", "note", "warn", "oom", "paused", "resumed", "stalled"),
}
"""Types that we can tell; a newer writer may know more, and those are skipped."""
LINE_BYTES: Final = 2**20
"""The writer keeps lines below 4 KiB; what is longer than this is no event, and is not kept in memory."""
POLL_SECONDS: Final = 0.25
CHUNK_BYTES: Final = 2**18


def follow(run: Run, poll_s: float = POLL_SECONDS) -> Iterator[Event]:
    """Yield the events of a run from its offset on, as they are written.

    A run that lives and gets nowhere is told once with an event `stalled` of our own. Ends after `done`, `stopped` or `error`, or when the process is dead and all that it wrote was read. Lines
    that are torn, not JSON, or of an unknown type are skipped. Text is as it was written: clean it with `inert`
    before it meets a terminal.
    """
    offset, began = run.offset, time.monotonic()
    watch, told = Watch(began, began), False
    while True:
        lives = alive(run)  # asked before reading: what was written before death is read after it
        for event, after in events(run.events, offset):
            offset = after
            watch = watch.after(event, time.monotonic())
            yield event
            if event.type in LAST:
                return
        if not lives:
            return
        stall = watch.stall(time.monotonic())
        if stall and not told:
            yield stalled(stall)
        told = stall is not None
        time.sleep(poll_s)


def stalled(stall: Stall) -> Event:
    """A stall as an event; it is the reader's, and stands in no file."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    facts = {"seconds": stall.seconds, "phase": stall.phase, "step": stall.step, "silent": stall.silent}
    return Event(v=EVENTS_VERSION, seq=0, t=now, mono=time.monotonic(), type="stalled", **facts)


def events(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """The events in the whole lines from `offset` to the end, each with the offset after its line."""
    for line, after in _lines(path, offset):
        event = parse(line)
        if event is not None:
            yield event, after


def parse(line: bytes) -> Event | None:
    """One line as an event, or None if it is not one that we know."""
    try:
        found = json.loads(line.decode("utf-8"), parse_constant=_refuse)
        event = Event.model_validate(found)
    except (ValueError, RecursionError, ValidationError):
        return None
    return event if event.type in KNOWN else None


def whole(path: Path) -> int:
    """The offset after the last whole line; 0 if there is no file. A resumed writer cuts a torn line off there."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - LINE_BYTES))
            tail = file.read()
    except OSError:
        return 0
    return size - len(tail) + tail.rfind(b"\n") + 1


def last_attempt(path: Path) -> int:
    """The offset where the last attempt begins: each process that writes says `start`, a resumed run has several."""
    before, found, pid = 0, 0, None
    for event, after in events(path):
        if event.type == "start" and (pid is None or event.number("pid") != pid):
            found, pid = before, event.number("pid")
        before = after
    return found


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _lines(path: Path, offset: int) -> Iterator[tuple[bytes, int]]:
    try:
        file = path.open("rb")
    except OSError:  # not written yet
        return
    with file:
        file.seek(offset)
        rest = b""
        while chunk := file.read(CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                offset += len(line) + 1
                yield line, offset
            if len(rest) > LINE_BYTES:  # no event is so long; forget it, keep counting
                offset += len(rest)
                rest = b""


State = Literal["running", "done", "stopped", "error", "died"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, and what of it is safe.

    `exit` is a code of `recipes.exits`. `saved_step` is the last checkpoint that was committed, by this attempt
    or an earlier one. `message` is in English; `problem` and `remedy` are message ids with places for `values`;
    `problems` are, each with its values, what `places` say in English.
    `missing_lines` counts gaps in the numbers of the events.
    """

    state: State
    exit: int = Exit.OK
    step: int = 0
    steps: int | None = None
    saved_step: int | None = None
    code: str = ""
    message: str = ""
    problem: str = ""
    remedy: str = ""
    values: Mapping[str, object] = field(default_factory=dict)
    places: tuple[str, ...] = ()
    problems: tuple[tuple[str, Mapping[str, object]], ...] = ()
    report: Path | None = None
    missing_lines: int = 0


def outcome(run: Run) -> Outcome:
    """Tell the outcome from the last line, not from the launcher; without a last line, from how the process died."""
    found = _folded(run)
    if found.state != "running" or alive(run):
        return found
    code = run.process.returncode if run.process is not None else None
    if code in {
        -signal.SIGINT,
        Exit.INTERRUPTED,
    }:  # before it could hear: it leaves nothing, not even a last line
        return replace(found, state="stopped", exit=Exit.INTERRUPTED)
    killed = "R0401" if code == -signal.SIGKILL else "R0400"
    return replace(found, state="died", exit=_exit(code), code=killed, message=last_words(run))


def last_words(run: Run, *, limit: int = 2_000) -> str:
    """The end of what the process printed: all that is known when it died without an event."""
    try:
        with (run.path / OUTPUT).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - limit))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    before, mark, said = text.rpartition(ATTEMPT)
    return (said.partition("\n")[2] if mark else before or said).strip()


def _folded(run: Run) -> Outcome:
    """All events in one value: of earlier attempts only what they saved, of the last one everything."""
    found, last = Outcome("running"), None
    for event, after in events(run.events):
        if after <= run.offset:
            found, last = Outcome("running", saved_step=_saved(found, event)), event.seq
            continue
        gap = max(0, event.seq - last - 1) if last is not None else 0
        found, last = replace(found, missing_lines=found.missing_lines + gap), event.seq
        found = _after(found, event, run)
    return found


def _saved(found: Outcome, event: Event) -> int | None:
    step = event.number("step") if event.type == "checkpoint" else None
    return found.saved_step if step is None else int(step)


def _after(found: Outcome, event: Event, run: Run) -> Outcome:
    """The outcome as it looks after one more event."""
    step = event.number("step")
    match event.type:
        case "start":
            steps, resumed = event.number("steps"), event.number("resumed_from")
            return replace(found, steps=None if steps is None else int(steps), step=int(resumed or 0))
        case "checkpoint":
            return replace(found, saved_step=_saved(found, event))
        case "done":
            path = run.path / REPORT
            report = path if path.is_file() else None
            return replace(found, state="done", exit=_code(event, Exit.OK), report=report)
        case "stopped":
            step = found.step if step is None else int(step)
            exit_code = _code(event, Exit.INTERRUPTED)
            return replace(found, state="stopped", exit=exit_code, step=step, message=event.text("reason"))
        case "error":
            return replace(found, state="error", **_failure(event))
        case _:
            return found if step is None else replace(found, step=int(step))


def _failure(event: Event) -> dict[str, Any]:
    extra = event.model_extra or {}
    values, places, problems = (extra.get(key) for key in ("values", "places", "problems"))
    return {
        "exit": _code(event, Exit.BUG),
        "code": event.text("code"),
        "message": event.text("msg"),
        "problem": event.text("msgid"),
        "remedy": event.text("remedy"),
        "values": values if isinstance(values, dict) else {},
        "places": tuple(map(str, places)) if isinstance(places, list) else (),
        "problems": tuple(map(_sentence, problems)) if isinstance(problems, list) else (),
    }


def _sentence(problem: object) -> tuple[str, Mapping[str, object]]:
    """A message id and its values; nothing of what a file holds instead."""
    found = problem if isinstance(problem, dict) else {}
    text, values = found.get("msgid"), found.get("values")
    return text if isinstance(text, str) else "", values if isinstance(values, dict) else {}


def _code(event: Event, default: Exit) -> int:
    """The exit code that an event names; a failure that says 0 is not believed."""
    code = int(event.number("exit") or 0)
    return code if code in set(Exit) and (code or event.type == "done") else default


def _exit(returncode: int | None) -> int:
    """The exit code of a process that died without a last event."""
    match returncode:
        case None:
            return Exit.BUG
        case code if (
            code == -signal.SIGKILL
        ):  # nobody else kills like this: most often the kernel, out of memory
            return Exit.ENVIRONMENT
        case code if code == -signal.SIGTERM:
            return Exit.TERMINATED
        case code if code == -signal.SIGINT:
            return Exit.INTERRUPTED
        case code if code in set(Exit) and code != Exit.OK:
            return code
        case _:
            return Exit.BUG
