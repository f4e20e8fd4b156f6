"""A task of Lantern Bay as files: the rows in a directory, and the parts of a probe or a recipe that speak of them."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from advisor.learn.lantern.base import base_dir
from advisor.learn.lantern.tasks import Task
from recipes.plan import Data, Evaluation, Model
from recipes.rows import Row

TRAIN: Final = "train.jsonl"
HELD_OUT: Final = "held_out.jsonl"
LENGTH_TOKENS: Final = 256
"""The length the base was trained on; the longest row of any task has half of it."""
NEW_TOKENS: Final = 48
"""Room for an answer: the longest reference (a ticket) has 40 tokens."""
SHOTS: Final = 3
"""Examples in the few-shot arm: with five long ones the base, trained on 256 tokens, loses the thread."""


def model() -> Model:
    """Name the base model; in 32 bits, because it is small and CPUs are slow with 16."""
    return Model(id=str(base_dir()), dtype="float32")


def lay_out(train: Sequence[Row], held_out: Sequence[Row], directory: Path) -> Data:
    """Write both sides of a split into `directory` and return how a recipe in that directory names them."""
    return Data(
        train=TRAIN,
        train_sha256=_write(train, directory / TRAIN),
        held_out=HELD_OUT,
        held_out_sha256=_write(held_out, directory / HELD_OUT),
        length_tokens=LENGTH_TOKENS,
    )


def evaluation(task: Task, rows: int) -> Evaluation:
    """Return how a task is judged, on at most `rows` held-out rows."""
    return Evaluation(
        rows=rows,
        max_new_tokens=NEW_TOKENS,
        shots=SHOTS,
        prompt=task.prompt,
        few_shot_prompt=task.few_shot_prompt,
        primary=task.primary,
    )


def _write(rows: Sequence[Row], path: Path) -> str:
    """Write rows as JSONL and return the sum (sha256) of the file."""
    content = "".join(row.model_dump_json(exclude_none=True) + "\n" for row in rows).encode()
    path.write_bytes(content)
    return sha256(content).hexdigest()
