"""Checkpoints: committed all at once, verified before they are used, safetensors and JSON only.

A commit writes into `.tmp-<step>-<pid>/`, the manifest last, flushes everything and renames. So a directory named
`step-*` is whole, whatever killed the process, and a killed save is only a `.tmp-*` that the next start sweeps.

What is divided over processes is gathered piece by piece: all give, the main one writes. So a checkpoint is the same
whatever the number of processes, and another number can go on from it.

Nothing random is saved: the order of the data is a pure function of (seed, epoch, step), and each step seeds torch
from (seed, step, process), so a resumed step draws what the first one drew.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from recipes.words import N_
from trainers.checkpoints import divided
from trainers.checkpoints.storage import Written, move_directory, write_file
from trainers.errors import NoCheckpoint, NotFinite, SaveFailed
from trainers.trend import Trend

SCHEMA: Final = 1
MANIFEST: Final = "MANIFEST.json"
STATE: Final = "state.json"
NAME: Final = re.compile(r"step-(\d{8})")
SHARD_BYTES: Final = 2**30
"""How much is serialised at one time, so that saving a large model does not need it twice in memory."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: what a resumed one cannot find out again. Seconds are of training alone."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    trained_tokens: int = 0
    first_loss: float | None = None
    last_loss: float | None = None
    peak_bytes: int = 0
    trend: Trend = field(default_factory=Trend)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that verified."""

    path: Path
    progress: Progress
    fingerprints: Mapping[str, str]
    bytes: int
    sha256: str
    """Sum of the manifest."""


@dataclass(frozen=True, slots=True)
class Found:
    """The newest checkpoint that verifies, if there is one, and why newer ones were skipped."""

    checkpoint: Checkpoint | None
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """What a checkpoint keeps: the weights that move, and the optimizer's memory of them."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    progress: Progress
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def give(contents: Contents) -> None:
    """Take part in a commit of the main process, in another one: gather what is divided."""
    _spend(*_streams(contents))


def commit(home: Path, contents: Contents) -> Checkpoint:
    """Save a checkpoint below `home`, all or nothing; all other processes `give` at the same time.

    Raises:
        SaveFailed: The disk did not take it; older checkpoints are as they were.
        NotFinite: A weight is not a number, and such a model is not kept.
    """
    step = contents.progress.step
    part, final = home / f".tmp-{step}-{os.getpid()}", home / f"step-{step:08d}"
    weights, moments = _streams(contents)
    try:
        home.mkdir(parents=True, exist_ok=True)
        part.mkdir()
        files = dict(_write(part, _finite(weights, step), moments, contents.progress))
        manifest = {
            "schema": SCHEMA,
            "step": step,
            "files": {name: asdict(written) for name, written in files.items()},
            "fingerprints": dict(contents.fingerprints),
            "versions": dict(contents.versions),
        }
        write_file(part / MANIFEST, [_json(manifest)])
        _discard(final)  # the same step again, after a resume from an older one
        move_directory(part, final)
    except OSError as error:
        raise _not_saved(error, home) from error
    finally:
        _spend(weights, moments)  # the others give to the end, whatever happens here
        shutil.rmtree(part, ignore_errors=True)
    return verify(final)


def newest(home: Path) -> Found:
    """The newest checkpoint that verifies, else the one before it, and so on."""
    skipped: list[str] = []
    for path in _all(home):
        try:
            return Found(verify(path), tuple(skipped))
        except NoCheckpoint as reason:
            skipped.append(str(reason))
    return Found(None, tuple(skipped))


def verify(path: Path) -> Checkpoint:
    """Hold a checkpoint against its manifest, sizes first.

    Raises:
        NoCheckpoint: With what is wrong.
    """
    try:
        text = (path / MANIFEST).read_bytes()
        manifest = json.loads(text)
        files: dict[str, dict[str, object]] = manifest["files"]
        for name, written in files.items():
            if Path(name).name != name or (path / name).stat().st_size != written["bytes"]:
                raise _broken(path, N_("{name} has another size"), name)
        for name, written in files.items():
            if _sum(path / name) != written["sha256"]:
                raise _broken(path, N_("{name} has other bytes"), name)
        progress = _progress(json.loads((path / STATE).read_bytes()))
        size = sum(int(str(written["bytes"])) for written in files.values())
        return Checkpoint(path, progress, manifest["fingerprints"], size, _sum(path / MANIFEST))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(path, N_("it is not whole ({name})"), type(error).__name__) from None


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the saved weights and moments back, bit by bit.

    Raises:
        NoCheckpoint: It was made of another model.
    """
    saved = _read(checkpoint.path, "weights")
    own = divided.trained(model)
    if {name: divided.shape(w) for name, w in own.items()} != {name: w.shape for name, w in saved.items()}:
        raise _broken(checkpoint.path, N_("it was made of another model ({name})"), type(model).__name__)
    divided.put(model, optimizer, saved, _read(checkpoint.path, "optimizer"))


def count(home: Path) -> int:
    """How many checkpoints are there, whole or not."""
    return len(_all(home))


def prune(home: Path, keep: int) -> None:
    """Remove all but the newest `keep`; called after a new one has verified, never before."""
    for old in _all(home)[keep:]:
        _discard(old)


def sweep(home: Path) -> None:
    """Remove what a killed process left; called under the lock of the run."""
    if home.is_dir():
        for left in (*home.glob(".tmp-*"), *home.glob(".del-*")):
            shutil.rmtree(left, ignore_errors=True)


def _all(home: Path) -> list[Path]:
    """Checkpoints by step, the newest first; by name, never by a clock."""
    found = [path for path in home.glob("step-*") if NAME.fullmatch(path.name)] if home.is_dir() else []
    return sorted(found, key=lambda path: path.name, reverse=True)


def _discard(path: Path) -> None:
    """Delete a checkpoint so that no half of it ever has its name."""
    if path.exists():
        going = path.with_name(f".del-{path.name}-{os.getpid()}")
        path.rename(going)
        shutil.rmtree(going, ignore_errors=True)


def _streams(contents: Contents) -> tuple[Iterator[tuple[str, Tensor]], Iterator[tuple[str, Tensor]]]:
    """Weights and moments by name, each made whole when it is asked for."""
    return divided.weights(contents.model, contents.optimizer), divided.moments(
        contents.model, contents.optimizer
    )


def _spend(*streams: Iterator[tuple[str, Tensor]]) -> None:
    for stream in streams:
        for _ in stream:
            pass


def _write(
    part: Path,
    weights: Iterable[tuple[str, Tensor]],
    moments: Iterable[tuple[str, Tensor]],
    progress: Progress,
) -> Iterator[tuple[str, Written]]:
    for kind, tensors in (("weights", weights), ("optimizer", moments)):
        for number, shard in enumerate(_shards(tensors), start=1):
            name = f"{kind}-{number:05d}.safetensors"
            yield name, write_file(part / name, [save(shard)])
    yield STATE, write_file(part / STATE, [_json(asdict(progress))])


def _shards(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors:
        if shard and size + tensor.nbytes > SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor.detach().cpu().contiguous()
        size += tensor.nbytes
    if shard:
        yield shard


def _read(path: Path, kind: str) -> dict[str, Tensor]:
    return {
        name: tensor
        for shard in sorted(path.glob(f"{kind}-*.safetensors"))
        for name, tensor in load_file(shard).items()
    }


def _finite(weights: Iterable[tuple[str, Tensor]], step: int) -> Iterator[tuple[str, Tensor]]:
    """The same weights, as long as they are numbers."""
    for name, weight in weights:
        if not bool(torch.isfinite(weight).all()):
            raise NotFinite(
                N_("after step {step} a weight is not a number ({name}); this step is not saved"),
                remedy=N_("lower schedule.learning_rate and go on from the last checkpoint, which is good"),
                step=step,
                name=name,
            )
        yield name, weight


def _progress(found: Mapping[str, Any]) -> Progress:
    trend = found.get("trend", {})  # what was saved before there was one begins anew
    return Progress(**{**found, "trend": Trend(**{**trend, "risen_at": tuple(trend.get("risen_at", ()))})})


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, indent=1, sort_keys=True).encode()


def _broken(path: Path, text: str, name: str) -> NoCheckpoint:
    return NoCheckpoint(
        text, remedy=N_("the checkpoint before it is used; remove this one"), where=str(path), name=name
    )


def _not_saved(error: OSError, home: Path) -> SaveFailed:
    last = _all(home)
    return SaveFailed(
        N_("the checkpoint could not be saved: {reason}; {free} MiB are free. The last good one: {last}"),
        remedy=N_("make room, then go on with --resume: nothing before that checkpoint is lost"),
        where=str(home),
        reason=error.strerror or str(error),
        free=shutil.disk_usage(home if home.exists() else home.parent).free // 2**20,
        last=last[0].name if last else "-",
    )
