"""Start a trainer as a process of its own, which outlives whoever started it."""

import errno
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from advisor.errors import Busy, MissingPackage, NoRoom
from advisor.run.directory import ATTEMPT, CONTROL, MARKER, OUTPUT, PROBE, RECIPE, WISHES, Run, alive
from advisor.run.follow import whole
from recipes.words import N_

NEEDED: Final = ("torch", "transformers", "peft", "accelerate", "safetensors")
"""What every run imports; a part that only some need (bitsandbytes) is asked for by the trainer itself."""

MERGED: Final = "merge.json"
"""Where the trainer leaves what a merge came to, beside the merged model."""

KEPT: Final = frozenset(
    {
        "HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "PYTHONHASHSEED", "PYTHONPATH",
        "SYSTEMROOT", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV",
        "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH", "TRANSFORMERS_OFFLINE",
        "ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE",
        "http_proxy", "https_proxy", "no_proxy",
    }
)  # fmt: skip
"""The environment is built from a list, not copied: what a trainer does not need (keys of other services) it does
not get, and its libraries cannot print. A Hub token is read from its file, not from a variable."""
KEPT_PREFIXES: Final = (
    "ADVISOR_",
    "CUDA_",
    "LC_",
    "MKL_",
    "NCCL_",
    "NVIDIA_",
    "OMP_",
    "PYTORCH_",
    "TORCH_",
    "XDG_",
)


def start(
    recipe: Path,
    *,
    run: Path,
    resume: bool = False,
    accept_changes: bool = False,
    measure: bool = False,
    nproc: int | None = None,
) -> Run:
    """Start `recipe` in the directory `run`, in a session of its own, and return at once.

    Standard output and error go to `stdout.log`, never into a pipe, and standard input is empty: leaving a
    terminal or an interface ends nothing.

    Args:
        recipe: A recipe; with `measure`, a probe.
        run: The run directory; made if it is not there.
        resume: Go on in a directory that holds a run.
        accept_changes: Go on although recipe, data or versions changed.
        measure: Judge a model without training it.
        nproc: So many processes on this computer share the batch, whatever the recipe says.

    Raises:
        MissingPackage: The [train] extra is not installed.
        NoRoom: The directory holds something else, or cannot be written.
        Busy: The run goes already.
    """
    needs()
    _claim(run, resume=resume)
    for wish in WISHES:  # a wish to the attempt before is not one to this
        (run / CONTROL / wish).unlink(missing_ok=True)
    words = command(recipe, run, resume=resume, accept_changes=accept_changes, measure=measure, nproc=nproc)
    offset = whole(Run(run).events)
    try:
        with (run / OUTPUT).open("ab") as output:
            output.write(f"{ATTEMPT}{shlex.join(words)}\n".encode())
            output.flush()
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(os.environ),
                start_new_session=True,
            )
    except OSError as error:
        raise _no_room(run, error) from None
    return Run(run, process.pid, process, offset)


def needs() -> None:
    """See that what every run imports is installed.

    Raises:
        MissingPackage: The [train] extra is not installed.
    """
    missing = tuple(name for name in NEEDED if find_spec(name) is None)
    if missing:
        raise MissingPackage(
            N_("training needs packages that are not installed: {names}"),
            remedy=N_("install them: pip install 'finetune-advisor[train]'"),
            names=", ".join(missing),
        )


def command(
    recipe: Path,
    run: Path,
    *,
    resume: bool = False,
    accept_changes: bool = False,
    measure: bool = False,
    nproc: int | None = None,
) -> list[str]:
    """The words that start a trainer.

    `-P` keeps the current directory off the module path: a folder of the user's called `recipes` or `trainers`
    must not be taken for ours.
    """
    wishes = {"--resume": resume, "--accept-changes": accept_changes}
    verb = "measure" if measure else "run"
    return [
        *(sys.executable, "-P", "-m", "trainers", verb, str(recipe), "--run", str(run)),
        *(flag for flag, wished in wishes.items() if wished),
        *(("--nproc", str(nproc)) if nproc else ()),
    ]


def merged(run: Run, out: Path) -> dict[str, Any] | int:
    """Merge the adapter of a run in a process of its own; what the trainer measured, or its exit code.

    What goes wrong it says itself, on standard error.

    Raises:
        MissingPackage: The [train] extra is not installed.
    """
    needs()
    words = [*(sys.executable, "-P", "-m", "trainers", "merge", str(run.path)), "--out", str(out)]
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=environment(os.environ),
        check=False,
    )
    if done.returncode:
        return done.returncode
    found: dict[str, Any] = json.loads((out / MERGED).read_bytes())
    return found


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What a trainer gets of our environment."""
    return {name: value for name, value in ours.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}


def _claim(run: Path, *, resume: bool) -> None:
    """Make the directory, or see that it is free or ours to go on in."""
    try:
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        strangers = {entry.name for entry in run.iterdir()} - {OUTPUT, CONTROL, RECIPE, PROBE}
    except OSError as error:
        raise _no_room(run, error) from None
    except RecursionError:  # how `mkdir` ends on a path of a thousand folders
        raise _no_room(run, OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))) from None
    ours = (run / MARKER).is_file()
    if ours and alive(Run(run)):
        raise Busy(
            N_("this run goes already"),
            remedy=N_("watch it with: advisor runs attach {run}"),
            where=str(run),
            run=str(run),
        )
    if ours and not resume:
        raise NoRoom(
            N_("the directory holds another run"),
            remedy=N_(
                "go on with it (--resume), choose another (--run DIR), or remove it: advisor runs rm {run}"
            ),
            where=str(run),
            run=str(run),
        )
    if strangers and not ours:
        raise NoRoom(
            N_("the directory holds files that are not of a run, such as {name}"),
            remedy=N_("choose an empty directory with --run DIR"),
            where=str(run),
            name=min(strangers),
        )


def _no_room(run: Path, error: OSError) -> NoRoom:
    return NoRoom(
        N_("the run directory cannot be written: {reason}"),
        remedy=N_("free space or choose another directory with --run DIR"),
        where=str(run),
        reason=error.strerror or str(error),
    )
