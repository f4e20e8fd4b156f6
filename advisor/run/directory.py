"""A run directory: which file is where, and whether the process that writes there still lives."""

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from advisor import reading

RECIPE: Final = "recipe.toml"
EVENTS: Final = "events.jsonl"
OUTPUT: Final = "stdout.log"
REPORT: Final = "report.json"
CONTROL: Final = "control"
ATTEMPT: Final = "=== started: "
"""Begins a line in `stdout.log` for each start, so that the last words of one attempt are not taken for another's."""
PROBE: Final = "probe.json"
MARKER: Final = "control/run.json"
"""Written by the trainer: whose directory this is, and which process holds it."""
WISHES: Final = ("pause", "stop", "evaluate")
"""Empty files in `control`, obeyed at the next step."""


@dataclass(frozen=True, slots=True)
class Run:
    """A directory, and the process that writes there.

    `process` is known only to whoever started it. Following begins at `offset` bytes of the events: what stands
    before belongs to an earlier attempt.
    """

    path: Path
    pid: int | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, compare=False, repr=False)
    offset: int = 0

    @property
    def events(self) -> Path:
        """What happened, one JSON object a line."""
        return self.path / EVENTS


def alive(run: Run) -> bool:
    """Whether the trainer still runs: our child, or the process that the marker names."""
    if run.process is not None:
        return run.process.poll() is None
    marker = read_marker(run.path)
    pid, born, boot = marker.get("pid"), marker.get("process_start"), marker.get("boot_id")
    if not isinstance(pid, int) or pid <= 0 or (boot and boot != boot_id()):
        return False
    seen = process_start(pid)
    return seen is not None and (not isinstance(born, int) or born == seen)


def read_marker(path: Path) -> dict[str, object]:
    """The marker of a run directory; empty where there is none, or none that can be read."""
    try:
        found = json.loads(reading.text(path / MARKER))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def process_start(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None if it does not live.

    A number alone names many processes, one after the other; with the start it names one. Where there is no
    /proc, 0 stands for a process that lives.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return 0 if not Path("/proc/self/stat").exists() and _signals(pid) else None
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name in brackets may hold spaces and brackets
    state, start = fields[0], int(fields[19])
    return None if state in {"Z", "X"} else start


def boot_id() -> str:
    """The name of this boot of the computer: process ids and ticks begin anew with each."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _signals(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
