"""Rows: the one form of example that trainers read, whatever format it came from. Stored as JSONL, one row a line."""

import json
from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import Field, PositiveInt

from recipes.plan import Part, Prose

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class Turn(Part):
    """One message. `train` None leaves it to the objective: assistant turns are trained, others are not."""

    role: Literal["system", "user", "assistant"]
    content: Prose
    train: bool | None = None


class Check(Part):
    """One thing that a right answer shows; all checks of a row with the same `name` must hold together.

    Compared with the generated text after stripping white space at both ends.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    kind: Literal["equals", "contains", "starts_with", "ends_with"]
    value: Prose


class Source(Part):
    """Where a row came from; `group` keeps relatives (one conversation, one document) on one side of a split."""

    file: Prose
    line: PositiveInt
    format: Literal["alpaca", "chat", "prompt_completion", "text"]
    group: Prose


class Row(Part):
    """One example.

    `kind` "sft": the last message is the assistant's answer. `kind` "text": one assistant turn without a prompt,
    all of which is trained.
    """

    kind: Literal["sft", "text"] = "sft"
    messages: Annotated[tuple[Turn, ...], Field(min_length=1, strict=False)]
    checks: Annotated[tuple[Check, ...], Field(strict=False)] = ()
    context: Prose | None = None
    """A passage that holds the answer; used by the `context` arm only, to learn whether knowledge is what is missing."""
    source: Source

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """Everything before the last assistant turn."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """The last assistant turn: what a model should say."""
        return self.messages[-1].content


NLL: Final = "nll"
"""Not a score of an answer but of the reference, in nats a token; the one figure of plain text. Lower is better."""


def score_names(rows: Sequence[Row]) -> tuple[str, ...]:
    """The scores that apply to every one of `rows`: a score of some rows would compare different ones.

    Both ends ask: the advisor before a recipe is written, the trainers before they judge.
    """
    if any(row.kind == "text" for row in rows):
        return (NLL,)
    fields = ("fields",) if all(json_object(row.answer) is not None for row in rows) else ()
    shared = set.intersection(*({check.name for check in row.checks} for row in rows)) if rows else set[str]()
    return ("exact", *fields, *sorted(shared), "stopped", NLL)


def json_object(text: str) -> dict[str, Json] | None:
    """The JSON object that `text` is; None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # a model may write brackets until it is stopped
        return None
    return value if isinstance(value, dict) else None
