"""Rows: the one form of example that trainers read, whatever format it came from. Stored as JSONL, one row a line."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from recipes.plan import Part, Prose


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
