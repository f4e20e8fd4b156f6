"""The runs of a folder: list them, find one, read its report, tell it a wish, remove it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from advisor.errors import BadValue, Busy, NoRoom, UnknownName
from advisor.reading import is_directory, whole
from advisor.run.directory import CONTROL, EVENTS, MARKER, REPORT, Run, alive, read_marker
from advisor.run.follow import State, events, last_attempt, outcome
from recipes.report import Report, Verdict
from recipes.words import N_

Wish = Literal["pause", "stop", "evaluate"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A run as a list shows it; `started` is UTC, ISO 8601."""

    name: str
    path: Path
    state: State | Literal["paused"]
    step: int
    steps: int | None
    saved_step: int | None
    model: str
    method: str
    started: str
    verdict: Verdict | None


def entries(root: Path) -> tuple[Entry, ...]:
    """Every run below `root`, the newest first."""
    return tuple(sorted(map(entry, _runs(root)), key=lambda found: found.started, reverse=True))


def entry(path: Path) -> Entry:
    """One run, told from its files."""
    run = opened(path)
    first = next((event for event, _ in events(run.events, run.offset) if event.type == "start"), None)
    ended = outcome(run)
    begun = first is not None and first.number("pid") == run.pid
    # a new attempt may have said nothing yet
    state: State | Literal["paused"] = ended.state if begun or not alive(run) else "running"
    if state == "running" and _is_paused(run):
        state = "paused"
    receipt = _report(path) if state == "done" else None
    training = receipt.training if receipt else None  # a finished run that was resumed again takes no step
    return Entry(
        name=path.name,
        path=path,
        state=state,
        step=training.steps if training else ended.step,
        steps=training.steps if training else ended.steps,
        saved_step=ended.saved_step,
        model=first.text("model") if first else "",
        method=first.text("method") if first else "",
        started=first.t if first else "",
        verdict=receipt.verdict if receipt else None,
    )


def opened(path: Path) -> Run:
    """A run that somebody else started, from its last attempt on."""
    pid = read_marker(path).get("pid")
    return Run(path, pid if isinstance(pid, int) else None, None, last_attempt(path / EVENTS))


def find(root: Path, name: str) -> Run:
    """The run of this path, name, or beginning or part of a name that no other run has.

    Raises:
        UnknownName: No run is called so.
        BadValue: Several runs are.
    """
    direct = Path(name)
    if name and is_directory(direct) and (direct / MARKER).is_file():
        return opened(direct)
    known = {path.name: path for path in _runs(root)}
    for near in (
        [path for key, path in known.items() if key == name],
        [path for key, path in known.items() if key.startswith(name)],
        [path for key, path in known.items() if name in key],
    ):
        if len(near) == 1:
            return opened(near[0])
        if len(near) > 1:
            raise BadValue(
                N_("several runs are called like {name}: {names}"),
                remedy=N_("say more of the name"),
                name=name,
                names=", ".join(sorted(path.name for path in near)),
            )
    raise UnknownName(N_("run"), name, known, listing="advisor runs list")


def report(run: Run) -> Report:
    """The receipt of a finished run.

    Raises:
        NoRoom: There is none yet.
        BadValue: It cannot be read.
    """
    path = run.path / REPORT
    try:
        return Report.model_validate_json(whole(path))
    except OSError:
        raise NoRoom(
            N_("this run has no report: it did not come to its end"),
            remedy=N_("go on with: advisor train --resume {run}"),
            where=str(path),
            run=str(run.path),
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadValue(
            N_("this is not a report that we can read: {reason}"),
            remedy=N_("was it written by another version? see: advisor doctor"),
            where=str(path),
            reason=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
        ) from None


def wish(run: Run, what: Wish) -> None:
    """Leave a wish in the control folder; the trainer obeys at its next step.

    Raises:
        BadValue: Nobody is there to obey.
    """
    _needs_life(run)
    (run.path / CONTROL / what).touch()


def resume(run: Run) -> None:
    """Take the wish to pause back."""
    _needs_life(run)
    (run.path / CONTROL / "pause").unlink(missing_ok=True)


def remove(run: Run) -> None:
    """Delete a run directory: only one with our marker, and never one that is in use.

    Raises:
        NoRoom: It is not a run of ours, or the disk refuses.
        Busy: It goes.
    """
    if run.path.is_symlink() or not (run.path / MARKER).is_file():
        raise NoRoom(
            N_("this is not a run directory of ours, so it is not deleted"),
            remedy=N_("delete it by hand if you know what it holds"),
            where=str(run.path),
        )
    if alive(run):
        raise Busy(
            N_("this run goes, so it is not deleted"),
            remedy=N_("stop it first: advisor runs stop {run}"),
            where=str(run.path),
            run=run.path.name,
        )
    try:
        shutil.rmtree(run.path)  # does not follow symbolic links
    except OSError as error:
        raise NoRoom(
            N_("the run cannot be deleted: {reason}"),
            remedy=N_("look at the permissions of the directory"),
            where=str(error.filename or run.path),
            reason=error.strerror or str(error),
        ) from None


def _needs_life(run: Run) -> None:
    if not alive(run):
        raise BadValue(
            N_("this run does not go: nobody is there to obey"),
            remedy=N_("go on with: advisor train --resume {run}"),
            where=str(run.path),
            run=str(run.path),
        )


def _is_paused(run: Run) -> bool:
    """Whether the last word on it was a pause."""
    said = [event.type for event, _ in events(run.events, run.offset) if event.type in {"paused", "resumed"}]
    return said[-1:] == ["paused"]


def _runs(root: Path) -> Iterator[Path]:
    try:
        found = sorted(root.iterdir())
    except OSError:
        return
    yield from (path for path in found if not path.is_symlink() and (path / MARKER).is_file())


def _report(path: Path) -> Report | None:
    try:
        return Report.model_validate_json(whole(path / REPORT))
    except (OSError, ValidationError):
        return None
