"""Several processes on this computer: start them, pass signals on, and end all when one is lost. Needs no torch.

torchrun could start them, but it ends with 1 whatever its workers said, and gives them 30 seconds when a person wants
to stop: here a step is finished and saved first, however long that takes.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

from recipes.places import places
from recipes.plan import Plan
from recipes.words import N_
from recipes.write import changed
from trainers.errors import PeerLost, WrongLaunch
from trainers.run.directory import Files

LAUNCHER: Final = "TRAINERS_LAUNCHER"
"""The id of the process that started this one, in its environment: that one tells who was lost."""
LOOK_SECONDS: Final = 0.1
FOLLOW_SECONDS: Final = 20.0
"""How long the others may take to notice by themselves that one ended, and to say why."""
END_SECONDS: Final = 10.0
"""How long they may take when they are asked to end."""
WORDS_BYTES: Final = 1_000
ENDED: Final = frozenset({"done", "stopped", "error"})
PR_SET_PDEATHSIG: Final = 1


def shared(text: str, plan: Plan, processes: int) -> str:
    """The text of a recipe for so many processes on one computer, which share its batch.

    A step keeps its micro-batches if they can be shared out evenly, so it sees the same rows and learns the same;
    else each process gets as many as before.

    Args:
        text: A recipe.
        plan: What it says.
        processes: How many.
    """
    together = plan.schedule.accumulation * plan.layout.processes
    each = together // processes if together % processes == 0 else plan.schedule.accumulation
    wanted = {"layout.processes": processes, "layout.nodes": 1, "schedule.accumulation": each}
    now = {
        "layout.processes": plan.layout.processes,
        "layout.nodes": plan.layout.nodes,
        "schedule.accumulation": plan.schedule.accumulation,
    }
    differing = {key: value for key, value in wanted.items() if value != now[key]}
    if differing and "layout" not in dict(places(text)):
        text = f"{text}\n[layout]\n"
    return changed(text, differing, f"--nproc {processes}")


def wants_company(plan: Plan) -> bool:
    """Whether this process is to start others: the recipe wants several, and no launcher has started them.

    Raises:
        WrongLaunch: They are to run on several computers.
    """
    if plan.layout.processes == 1 or "WORLD_SIZE" in os.environ:
        return False
    if plan.layout.nodes > 1:
        raise WrongLaunch(
            N_("the recipe wants {nodes} computers, and this command starts processes on one"),
            remedy=N_(
                "write files for a cluster with `advisor recipe --target slurm` (or torchrun), "
                "or train on this computer with --nproc"
            ),
            nodes=plan.layout.nodes,
        )
    return True


def launch(words: Sequence[str], processes: int, files: Files) -> tuple[int, PeerLost | None]:
    """Run `python -m trainers` with `words` in so many processes, to the end.

    The main process prints where this one does; each other has its log in `control/`.

    Returns:
        The exit code of the main process; and who was lost, if the run ended without a last event.
    """
    files.control.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    ranks = [_start(words, rank, processes, files, port) for rank in range(processes)]
    with _passing_on(ranks):
        lost = _watched(ranks)
        _ended(ranks)
    code = ranks[0].returncode
    if lost is None or _has_ended(files.events):
        return code, None
    return code, _lost(lost, ranks[lost].returncode, processes, files)


def dies_with_launcher() -> None:
    """End this process when the one that started it is killed: nobody else would."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None or sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(launcher):  # it was killed before
        os.kill(os.getpid(), signal.SIGKILL)


def log_of(files: Files, rank: int) -> Path:
    """What a process other than the main one printed."""
    return files.control / f"rank-{rank}.log"


def _start(
    words: Sequence[str], rank: int, processes: int, files: Files, port: int
) -> subprocess.Popen[bytes]:
    """One process, in a group of its own: Ctrl-C in a terminal must reach it once, through us."""
    safe = ["-P"] if sys.flags.safe_path else []
    argv = [sys.executable, *safe, "-m", "trainers", *words]
    environment = _environment(rank, processes, port)
    if rank == 0:
        return subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, process_group=0)
    with log_of(files, rank).open("wb") as log:
        return subprocess.Popen(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
        )


def _environment(rank: int, processes: int, port: int) -> Mapping[str, str]:
    """What torch.distributed reads, as torchrun would set it."""
    cores = os.cpu_count() or 1
    return {
        "OMP_NUM_THREADS": str(max(1, cores // processes)),
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        LAUNCHER: str(os.getpid()),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _watched(ranks: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait for the end; which process failed first, if one did."""
    while any(rank.poll() is None for rank in ranks):
        for number, rank in enumerate(ranks):
            if rank.poll():
                return number
        time.sleep(LOOK_SECONDS)
    return next((number for number, rank in enumerate(ranks) if rank.returncode), None)


def _ended(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    """See that all end: of themselves, asked, or killed."""
    for patience, number in ((FOLLOW_SECONDS, signal.SIGTERM), (END_SECONDS, signal.SIGKILL)):
        end = time.monotonic() + patience
        while any(rank.poll() is None for rank in ranks) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)
    for rank in ranks:
        rank.wait()


@contextmanager
def _passing_on(ranks: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Pass signals on to all; when the terminal closes, they save and end."""

    def heard(number: int, _: FrameType | None) -> None:
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    heeded = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, heard) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _has_ended(events: Path) -> bool:
    """Whether the main process told the end itself."""
    try:
        with events.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 2**16))
            last = file.read().splitlines()[-1]
        return json.loads(last)["type"] in ENDED
    except (OSError, ValueError, IndexError, KeyError, TypeError):
        return False


def _lost(rank: int, code: int, processes: int, files: Files) -> PeerLost:
    how = signal.Signals(-code).name if code < 0 else f"exit {code}"
    log = log_of(files, rank)
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - WORDS_BYTES))
            words = file.read().decode("utf-8", errors="replace").strip()
    except OSError:  # the main process has no log of its own
        words = ""
    return PeerLost(
        N_(
            "process {rank} of {count} ended first ({how}), and the others were ended. Its last words: {words}"
        ),
        remedy=N_("look into {log}, then go on from the last checkpoint with --resume"),
        rank=rank + 1,
        count=processes,
        how=how,
        words=words or "-",
        log=str(log if rank else files.root / "stdout.log"),
    )
