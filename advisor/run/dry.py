"""A dry run of a recipe: the trainer executes it without weights, in a process of its own, and says what it needs."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from advisor.catalog.models import ModelShape
from advisor.errors import AdvisorError
from advisor.run.dry_config import config
from advisor.run.start import environment, needs
from recipes.exits import Exit
from recipes.words import N_

SECONDS: Final = 600
"""A dry run takes seconds; after this something hangs."""
PROBLEM: Final = "error["
"""Begins the trainer's sentence about what a person can mend."""


class DryRunFailed(AdvisorError):
    """The trainer could not run a recipe dry; its own sentence says why."""

    exit_code = Exit.USAGE
    code = "E0102"


@dataclass(frozen=True, slots=True)
class Dry:
    """Peak bytes of each moment of a step on one CUDA device, named as the estimate names them.

    `reserved` is what the allocator would hold: with expandable segments, and without.
    """

    moments: Mapping[str, int]
    layers: int
    depths: tuple[int, ...]
    cpu_seconds: float
    versions: Mapping[str, str]
    reserved: tuple[int, int] | None = None

    @property
    def allocated(self) -> int:
        """The highest peak."""
        return max(self.moments.values())

    @property
    def winner(self) -> str:
        """The moment that has it."""
        return max(self.moments, key=lambda name: self.moments[name])


def dry_run(recipe: Path, shape: ModelShape | None, *, reserved: bool = False) -> Dry:
    """Start the trainer on `recipe` and wait for its answer.

    Args:
        recipe: A recipe.
        shape: A model of the catalogue; None where the model's own `config.json` lies beside the recipe or here.
        reserved: Ask also what the allocator would hold; that takes the whole depth.

    Raises:
        MissingPackage: The [train] extra is not installed.
        DryRunFailed: The trainer said no, or nothing.
    """
    needs()
    with tempfile.TemporaryDirectory(prefix="advisor-dry-") as folder:
        words = [sys.executable, "-P", "-m", "trainers", "dry-run", str(recipe), "--json"]
        if shape is not None:
            written = Path(folder) / "config.json"
            written.write_text(json.dumps(config(shape)), encoding="utf-8")
            words += ["--config", str(written)]
        words += ["--reserved"] if reserved else []
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
                env=environment(os.environ),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _failed(f"> {SECONDS} s") from None
        except OSError as error:
            raise _failed(error.strerror or str(error)) from None
    if done.returncode != Exit.OK:
        raise _failed(_sentence(done.stderr) or f"exit {done.returncode}")
    return _answer(done.stdout)


def _answer(text: str) -> Dry:
    try:
        found: dict[str, Any] = json.loads(text)
        held = found["reserved"]
        return Dry(
            moments=MappingProxyType({str(name): int(size) for name, size in found["moments"].items()}),
            layers=int(found["layers"]),
            depths=tuple(map(int, found["depths"])),
            cpu_seconds=float(found["cpu_seconds"]),
            versions=MappingProxyType(dict(found["versions"])),
            reserved=held and (int(held["expandable"]), int(held["segments"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _failed(f"{type(error).__name__}: {text[:200]!r}") from None


def _sentence(text: str) -> str:
    """What the trainer said is wrong, without what its libraries said before."""
    lines = text.splitlines()
    said = [line for line in lines if line.startswith(PROBLEM)] or lines[-1:]
    return said[-1].partition(": ")[2] or said[-1] if said else ""


def _failed(reason: str) -> DryRunFailed:
    return DryRunFailed(
        N_("the dry run failed: {reason}"),
        remedy=N_("mend what it names; `advisor estimate RECIPE` alone needs neither torch nor the model"),
        reason=reason[:500],
    )
