"""What a run would train of rows, token by token: asked of the trainer, since only it has tokenizer and template."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from os import environ
from pathlib import Path

from advisor.data import store
from advisor.data.mask import Mask, Span
from advisor.errors import BadValue
from advisor.run.start import environment, needs
from recipes.rows import Row
from recipes.words import N_


def masks(rows: Sequence[Row], model: Path) -> tuple[Mask, ...]:
    """Ask the trainer; it takes seconds, mostly to import.

    Raises:
        MissingPackage: The [train] extra is not installed.
        BadValue: The trainer cannot use the model's tokenizer.
    """
    needs()
    with tempfile.TemporaryDirectory(prefix="advisor-preview-") as folder:
        path = Path(folder) / "rows.jsonl"
        store.write(path, rows)
        words = [sys.executable, "-P", "-m", "trainers", "masks", str(model), str(path)]
        done = subprocess.run(
            words, capture_output=True, text=True, encoding="utf-8", check=False, env=environment(environ)
        )
    if done.returncode:
        raise BadValue(
            N_("the trainer cannot show what it would train: {reason}"),
            remedy=N_("give the directory of a model with its tokenizer"),
            where=str(model),
            reason=_reason(done.stderr),
        )
    return tuple(_mask(line) for line in done.stdout.splitlines())


def _reason(said: str) -> str:
    """The trainer's own sentence among what its libraries print; else the last line."""
    lines = said.strip().split("\n")
    return next((line.partition(": ")[2] for line in lines if line.startswith("error[")), lines[-1])


def _mask(line: str) -> Mask:
    found = json.loads(line)
    spans = tuple(Span(one["text"], one["tokens"], one["trained"]) for one in found.get("spans", ()))
    return Mask(found["place"], spans, found.get("flaw", ""))
