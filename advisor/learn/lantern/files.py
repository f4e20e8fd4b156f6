"""How a probe or a recipe speaks of Lantern Bay: the base model, and how a task is judged."""

from typing import Final

from advisor.learn.lantern.base import base_dir
from advisor.learn.lantern.tasks import Task
from recipes.plan import Evaluation, Layout, Model

TRAIN: Final = "train.jsonl"
HELD_OUT: Final = "held_out.jsonl"
LENGTH_TOKENS: Final = 256
"""The length the base was trained on; the longest row of any task has a third of it."""
NEW_TOKENS: Final = 48
"""Room for an answer: the longest reference (a ticket) has 34 tokens."""
SHOTS: Final = 3
"""Examples in the few-shot arm: with five long ones the base, trained on 256 tokens, loses the thread."""


def model() -> Model:
    """Name the base model, after checking its files; in 32 bits, because CPUs are slow with 16."""
    return Model(id=str(base_dir()), dtype="float32")


def layout() -> Layout:
    """Say where it runs: one thread, because two take longer to agree than one to multiply matrices of this size."""
    return Layout(threads=1)


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
