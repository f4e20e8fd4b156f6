"""A run from its recipe to its report: here the part around the story, which needs no torch.

The directory is claimed, the log is open and beating, and signals are heard before the first heavy import: it takes
seconds, and whoever watches sees it as a phase.
"""

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Final, Generic, TypeVar

from recipes.errors import Failure, Problem, RecipeError
from recipes.exits import Exit
from recipes.plan import Plan, Probe, digest
from recipes.plan import method as adapted_by
from recipes.read import read, read_probe
from recipes.words import N_
from trainers.checkpoints.storage import replace_file
from trainers.errors import DatasetError, Followed, MissingPackage, PeerLost
from trainers.events import Log, Silence, opened
from trainers.memory.resident import rss
from trainers.run import together
from trainers.run.control import Control, Stopped, Wish, listening
from trainers.run.directory import Files, Kind, Marker, cannot_write, claim, held, write_marker

EXTRA: Final = frozenset(
    {"torch", "transformers", "peft", "accelerate", "bitsandbytes", "safetensors", "huggingface_hub"}
)
"""What the [train] extra brings; a missing one is not a fault of ours."""

DISK: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}
)
"""A disk that does not take what is written; any other `OSError` that comes so far is a fault of ours."""

P = TypeVar("P", Plan, Probe)


@dataclass(frozen=True, slots=True)
class Job(Generic[P]):
    """What a story needs to know.

    `home` is what the paths in the plan are relative to. `marker` says what an earlier attempt began with; it is
    new where there was none. `recipe` is the plan as it was written.
    """

    plan: P
    home: Path
    files: Files
    marker: Marker
    log: Log
    control: Control
    resume: bool = False
    accept_changes: bool = False
    recipe: bytes = b""


def train(
    recipe: Path, directory: Path | None, *, resume: bool, accept_changes: bool, nproc: int | None = None
) -> int:
    """Run a recipe to its report; the exit code.

    Args:
        recipe: A recipe; its paths are relative to it.
        directory: The run directory; `runs/<name>` if not given.
        resume: Go on where an earlier attempt was killed or stopped.
        accept_changes: Go on although recipe, data, base or versions changed.
        nproc: So many processes on this computer share the batch, whatever the recipe says.

    Raises:
        RecipeError: The recipe cannot be used.
        WrongLaunch: It wants processes on several computers, and nothing has started them.
    """
    written = text(recipe)
    plan = read(written, where=str(recipe))
    if nproc is not None:
        written = together.shared(written, plan, nproc)
        plan = read(written, where=str(recipe))
    files = Files(directory or Path("runs") / plan.name)
    if together.wants_company(plan):
        flags = {
            "--resume": resume,
            "--accept-changes": accept_changes,
            f"--nproc={nproc}": nproc is not None,
        }
        words = [
            "run",
            str(recipe),
            "--run-dir",
            str(files.root),
            *(flag for flag, on in flags.items() if on),
        ]
        return _launched(words, plan, files, resume=resume)
    together.dies_with_launcher()

    def story(job: Job[Plan]) -> int:
        if _is_main() and not job.marker.fingerprints:  # later only if a change is accepted: see `story`
            replace_file(files.recipe, written.encode())
        told = replace(job, recipe=written.encode())
        return int(import_module("trainers.run.story").run(told))

    return _inside(files, "run", plan, recipe, story, resume=resume, accept_changes=accept_changes)


def _launched(words: Sequence[str], plan: Plan, files: Files, *, resume: bool) -> int:
    """Start the processes of a run and wait for them; the exit code of the main one."""
    if files.root.is_dir():
        claim(files, kind="run", resume=resume)  # before anything is written there
    code, lost = together.launch(words, plan.layout.processes, files)
    if lost is None:
        return code if code >= 0 else Exit.ENVIRONMENT
    with opened(files.events, rss=rss) as log:
        return _failed(log, lost)


def measure(probe: Path, directory: Path) -> int:
    """Judge a model without training it; the exit code.

    Raises:
        RecipeError: The probe cannot be used.
    """
    plan = read_probe(text(probe), where=str(probe))

    def story(job: Job[Probe]) -> int:
        return int(import_module("trainers.run.story").measure(job))

    return _inside(Files(directory), "measure", plan, probe, story)


def text(path: Path) -> str:
    """The text of a file that a person gave us.

    Raises:
        Failure: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Failure(
            N_("it cannot be read: {reason}"),
            remedy=N_("give the path of a recipe.toml (for `measure`, of a probe.json)"),
            where=str(path),
            reason=reason,
        ) from None


def _inside(
    files: Files,
    kind: Kind,
    plan: P,
    source: Path,
    story: Callable[[Job[P]], int],
    *,
    resume: bool = False,
    accept_changes: bool = False,
) -> int:
    """Tell a story inside the directory: claimed by the main process, and every way out is an event."""
    with ExitStack() as stack:
        control = stack.enter_context(listening(files.control))
        if not _is_main():
            marker = Marker(kind, files.root.name, str(source.parent.resolve()))
            home = source.parent
            return _told(Job(plan, home, files, marker, Silence(), control, resume, accept_changes), story)
        stack.enter_context(held(files))
        before = claim(files, kind=kind, resume=resume)
        home = _home(files, source, before)
        marker = before or Marker(kind, files.root.resolve().name, str(home.resolve()))
        try:
            write_marker(files, marker.held_by_us())
            log = stack.enter_context(opened(files.events, rss=rss))
        except OSError as error:
            raise cannot_write(files.root, error) from None
        job = Job(plan, home, files, marker.held_by_us(), log, control, resume, accept_changes)
        return _told(job, story)


def _is_main() -> bool:
    """Whether this process writes: torchrun's others train along, and they may be here before the directory is."""
    return os.environ.get("RANK", "0") == "0"


def _home(files: Files, source: Path, before: Marker | None) -> Path:
    """What paths are relative to: the recipe; for the copy in the run directory, where that came from."""
    copied = before is not None and source.resolve() == files.recipe.resolve()
    return Path(before.recipe_directory) if before and copied else source.parent


def _told(job: Job[P], story: Callable[[Job[P]], int]) -> int:
    """Run the story; whatever ends it is the last line of the log and the exit code."""
    log = job.log
    try:
        log.emit("start", **_start(job))
        log.emit("phase", name="import")
        return story(job)
    except Stopped as stopped:
        return _stopped(log, stopped)
    except Followed as followed:
        return followed.exit
    except KeyboardInterrupt:
        return _stopped(log, Stopped(Wish.STOP, "SIGINT twice"))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            return _crash(job, error)
        return _failed(log, MissingPackage(str(error.name)))
    except Failure as failure:
        return _failed(log, failure)
    except OSError as error:
        full = error.errno in DISK
        return _failed(log, cannot_write(job.files.root, error)) if full else _crash(job, error)
    except Exception as bug:  # noqa: BLE001  (the last resort: a crash file instead of a traceback)
        if operation := _in_any_order(bug):
            return _failed(log, _not_deterministic(job, operation))
        if not _misses_a_peer(bug):
            return _crash(job, bug)
        return Exit.ENVIRONMENT if together.LAUNCHER in os.environ else _failed(log, _lost())


def _in_any_order(bug: Exception) -> str | None:
    """The operation that has no deterministic form, if that is what torch says; it has no class for it."""
    name, found, _ = str(bug).partition(" does not have a deterministic implementation")
    return name if found and isinstance(bug, RuntimeError) else None


def _not_deterministic(job: Job[P], operation: str) -> RecipeError:
    text = N_(
        "layout.deterministic: this model needs {operation}, which torch cannot compute in the same order each "
        "time: make it false"
    )
    return RecipeError(
        str(job.files.recipe), [Problem(text, "layout.deterministic", values={"operation": operation})]
    )


def _misses_a_peer(bug: Exception) -> bool:
    """Whether another process went away; gloo and NCCL say so in words only."""
    return (
        int(os.environ.get("WORLD_SIZE", "1")) > 1
        and isinstance(bug, RuntimeError)
        and any(word in str(bug) for word in ("gloo", "NCCL", "ncclRemoteError"))
    )


def _lost() -> PeerLost:
    return PeerLost(
        N_("another process of this run ended, so this one cannot go on"),
        remedy=N_("what that one printed says why; then go on from the last checkpoint with --resume"),
    )


def _start(job: Job[P]) -> dict[str, object]:
    """The first line; it comes again when the number of steps is known."""
    return {
        "steps": None,
        "method": method(job.plan),
        "model": job.plan.model.id,
        "recipe_sha": digest(job.plan),
        "pid": job.marker.pid,
        "host": job.marker.host,
        "resumed_from": None,
    }


def method(plan: Plan | Probe) -> str:
    """What a run does, in one word."""
    match plan:
        case Probe():
            return "measure"
        case Plan(adaptation=adaptation):
            return adapted_by(adaptation)
    raise TypeError(type(plan).__name__)


def _stopped(log: Log, stopped: Stopped) -> int:
    log.emit("stopped", exit=stopped.exit, step=stopped.step, reason=stopped.reason)
    return stopped.exit


def _failed(log: Log, failure: Failure) -> int:
    """Tell a failure to the log and to whoever reads standard error."""
    with suppress(OSError):  # the disk may be what failed
        log.emit(
            "error",
            code=failure.code,
            msg=str(failure),
            msgid=failure.problem,
            values=failure.values,
            remedy=failure.remedy,
            where=failure.where,
            places=_places(failure),
            problems=_problems(failure),
            exit=failure.exit_code,
        )
    say(failure)
    return failure.exit_code


def _places(failure: Failure) -> list[str]:
    match failure:
        case DatasetError(places=places):
            return list(places)
        case RecipeError(problems=problems):
            return [str(problem) for problem in problems]
        case _:
            return []


def _problems(failure: Failure) -> list[dict[str, object]]:
    """The sentences behind `_places`, where there are any, for a reader of another language."""
    found = failure.problems if isinstance(failure, RecipeError) else ()
    return [{"msgid": problem.text, "values": dict(problem.values)} for problem in found]


def say(failure: Failure) -> None:
    """Write a failure for a person."""
    sys.stderr.write(f"error[{failure.code}]: {_plain(str(failure))}\n")
    if failure.remedy:
        sys.stderr.write(f"help: {_plain(failure.remedy.format(**failure.values))}\n")


def _crash(job: Job[P], bug: Exception) -> int:
    """A fault of ours: the traceback goes to a file, which is named."""
    try:
        file, name = tempfile.mkstemp(prefix="crash-", suffix=".txt", dir=job.files.control)
    except OSError:
        file, name = tempfile.mkstemp(prefix="trainers-crash-", suffix=".txt")
    with os.fdopen(file, "w", encoding="utf-8") as text:
        traceback.print_exception(bug, file=text)
    problem = N_("a fault of this program, not of yours: {kind}")
    remedy = N_("please report it with the file {path}")
    values = {"kind": type(bug).__name__, "path": name}
    with suppress(OSError):
        job.log.emit(
            "error",
            code="B0001",
            msg=problem.format(**values),
            msgid=problem,
            values=values,
            remedy=remedy,
            crash_file=name,
            exit=Exit.BUG,
        )
    sys.stderr.write(f"error[B0001]: {problem.format(**values)}\nhelp: {remedy.format(**values)}\n")
    return Exit.BUG


def _plain(text: str) -> str:
    """Text of data, models and paths without what a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
