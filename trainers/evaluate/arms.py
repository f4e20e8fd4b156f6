"""What each arm asks: the turns in front of the answer, for one row."""

import random
from collections.abc import Sequence
from typing import Literal

from recipes.plan import Evaluation
from recipes.rows import Row, Turn

Name = Literal["base", "prompt", "few_shot", "context", "tuned"]

NOTES = "Use these notes: {passage}"
"""How the `context` arm hands over the passage; part of the measurement, so it is not translated."""


def applies(name: Name, rows: Sequence[Row], train: Sequence[Row], evaluation: Evaluation) -> bool:
    """Whether an arm can be asked about every row; plain text is asked nothing, it is only read."""
    match name:
        case "base" | "tuned":
            return True
        case "prompt":
            return _asked(rows) and bool(evaluation.prompt)
        case "few_shot":
            return _asked(rows) and evaluation.shots > 0 and any(row.kind == "sft" for row in train)
        case "context":
            return _asked(rows) and all(row.context for row in rows)


def instruction(name: Name, evaluation: Evaluation) -> str | None:
    """The system turn that the arm adds to every row, if it is the same for all."""
    match name:
        case "prompt":
            return evaluation.prompt or None
        case "few_shot":
            return evaluation.few_shot_prompt or evaluation.prompt or None
        case "base" | "tuned" | "context":
            return None


def turns(name: Name, row: Row, examples: Sequence[Row], evaluation: Evaluation) -> tuple[Turn, ...]:
    """The prompt of one row as this arm asks it; `examples` stand in front of it (few-shot only)."""
    match name:
        case "base" | "tuned":
            return row.prompt
        case "prompt":
            return _with_system(instruction(name, evaluation) or "", row.prompt)
        case "few_shot":
            own = row.prompt[0].content if row.prompt and row.prompt[0].role == "system" else ""
            shown = [turn for example in examples for turn in _shown(example, own)]
            system = _with_system(instruction(name, evaluation) or "", row.prompt[: bool(own)])
            return (*system, *shown, *row.prompt[bool(own) :])
        case "context":
            return _with_system(NOTES.format(passage=row.context), row.prompt)


def examples(row: Row, train: Sequence[Row], count: int) -> tuple[Row, ...]:
    """Training rows to show before `row`: always the same ones for a row, never of its group, never its prompt.

    Groups keep relatives apart already; the prompt is compared as well, since a foreign split may not have
    known that two rows ask the same.
    """
    draw = random.Random(f"{row.source.group}\n{row.prompt[-1].content if row.prompt else ''}")
    chosen: list[Row] = []
    for candidate in draw.sample(train, k=len(train)):
        if len(chosen) == count:
            break
        if candidate.kind == "sft" and not _related(candidate, row):
            chosen.append(candidate)
    return tuple(chosen)


def _asked(rows: Sequence[Row]) -> bool:
    return all(row.kind == "sft" for row in rows)


def _related(one: Row, other: Row) -> bool:
    return one.source.group == other.source.group or one.prompt == other.prompt


def _with_system(text: str, prompt: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Put `text` above the row's own system turn, in one turn: templates know one system turn, at the start."""
    own, rest = (prompt[0].content, prompt[1:]) if prompt and prompt[0].role == "system" else ("", prompt)
    said = "\n\n".join(dict.fromkeys(part for part in (text, own) if part))
    return (Turn(role="system", content=said), *rest) if said else rest


def _shown(example: Row, system: str) -> tuple[Turn, ...]:
    """An example inside a conversation; a system turn of its own moves into its first question if it says more."""
    first, rest = example.messages[0], example.messages[1:]
    if first.role != "system":
        return example.messages
    if first.content == system or not rest:
        return rest
    return (rest[0].model_copy(update={"content": f"{first.content}\n\n{rest[0].content}"}), *rest[1:])
