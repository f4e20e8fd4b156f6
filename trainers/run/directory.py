"""A run directory: whose it is, who holds it, and which file is where."""

import fcntl
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from recipes.words import N_
from trainers.checkpoints.storage import replace_file
from trainers.errors import ForeignDirectory, RunBusy, SaveFailed

SCHEMA: Final = 1
KEPT: Final = frozenset({"control", "stdout.log", "recipe.toml", "probe.json"})
"""What a launcher may have put into a directory before the run begins."""
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

Kind = Literal["run", "measure"]


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one run."""

    root: Path

    @property
    def events(self) -> Path:
        """What happened."""
        return self.root / "events.jsonl"

    @property
    def control(self) -> Path:
        """Wishes, the lock, the marker."""
        return self.root / "control"

    @property
    def marker(self) -> Path:
        """Whose directory this is."""
        return self.control / "run.json"

    @property
    def recipe(self) -> Path:
        """The recipe, as it was run."""
        return self.root / "recipe.toml"

    @property
    def checkpoints(self) -> Path:
        """Where a killed run goes on."""
        return self.root / "checkpoints"

    @property
    def baseline(self) -> Path:
        """The arms that were judged before training."""
        return self.root / "baseline.json"

    @property
    def output(self) -> Path:
        """What was trained."""
        return self.root / "output"

    @property
    def report(self) -> Path:
        """The receipt."""
        return self.root / "report.json"


@dataclass(frozen=True, slots=True)
class Marker:
    """Whose directory this is, which process holds it, and what the run was started with.

    A process id alone is used again; with the start of the process (clock ticks since boot) and the boot it names
    one process. `recipe_directory` is what the paths in the recipe are relative to.
    """

    kind: Kind
    name: str
    recipe_directory: str
    pid: int = 0
    process_start: int | None = None
    boot_id: str = ""
    host: str = ""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    changes: Sequence[str] = ()
    """What it went on with instead, each time that this was accepted, as `name: before -> now`."""
    versions: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def held_by_us(self) -> "Marker":
        """The same, held by this process."""
        return replace(
            self, pid=os.getpid(), process_start=_process_start(), boot_id=_boot_id(), host=platform.node()
        )


@contextmanager
def held(files: Files) -> Iterator[None]:
    """Hold the run's lock; the kernel gives it back when the process ends, however it ends.

    Raises:
        RunBusy: Another process holds it.
        SaveFailed: The directory cannot be made or written.
    """
    try:
        files.control.mkdir(parents=True, exist_ok=True)
        lock = os.open(files.control / "run.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise cannot_write(files.root, error) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise _busy(files) from None
    try:
        yield
    finally:
        os.close(lock)


def read_marker(files: Files) -> Marker | None:
    """The marker, or None if the directory has none.

    Raises:
        ForeignDirectory: There is one that we did not write.
    """
    try:
        return Marker(**json.loads(files.marker.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        raise ForeignDirectory(
            N_("control/run.json is not a marker of this program"),
            remedy=N_("choose another directory with --run DIR"),
            where=str(files.root),
        ) from None


def write_marker(files: Files, marker: Marker) -> None:
    """Write the marker, all at once."""
    replace_file(files.marker, json.dumps(asdict(marker), indent=1, sort_keys=True).encode())


def claim(files: Files, *, kind: Kind, resume: bool) -> Marker | None:
    """See that the directory is free, or ours to go on in; the marker of the run that is there.

    Raises:
        ForeignDirectory: It holds another run, or files that are not of a run.
    """
    marker = read_marker(files)
    if marker is None:
        strangers = sorted({entry.name for entry in files.root.iterdir()} - KEPT)
        if strangers:
            raise ForeignDirectory(
                N_("the directory holds files that are not of a run, such as {name}"),
                remedy=N_("choose an empty directory with --run DIR"),
                where=str(files.root),
                name=strangers[0],
            )
        return None
    if not resume or marker.kind != kind:
        raise ForeignDirectory(
            N_("the directory holds another run ({name})"),
            remedy=N_("go on with it (--resume), or choose another directory with --run DIR"),
            where=str(files.root),
            name=marker.name,
        )
    return marker


def cannot_write(root: Path, error: OSError) -> SaveFailed:
    """The failure of a run directory that does not take what is written."""
    return SaveFailed(
        N_("the run directory cannot be written: {reason}"),
        remedy=N_(
            "make room, or choose another directory with --run DIR; what was saved before is untouched"
        ),
        where=str(root),
        reason=error.strerror or str(error),
    )


def _busy(files: Files) -> RunBusy:
    marker = None
    try:
        marker = read_marker(files)
    except ForeignDirectory:
        pass
    return RunBusy(
        N_("another process holds this run: {pid} on {host}"),
        remedy=N_(
            "wait for it, stop it with `advisor runs stop`, or choose another directory with --run DIR"
        ),
        where=str(files.root),
        pid=marker.pid if marker else "?",
        host=marker.host if marker else platform.node(),
    )


def _process_start() -> int | None:
    """When this process began, in clock ticks since boot; None where there is no /proc."""
    try:
        text = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])  # the name in brackets may hold spaces and brackets


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
