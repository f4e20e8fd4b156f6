"""What a dataset says about the task: facts for the decision, and only those that can be told from the data."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from advisor.data.convert import convert
from advisor.data.tokens import estimated
from recipes.rows import Row

Facts = Mapping[str, str | int | float]

SAME_KEYS: Final = 0.95
"""Of the JSON answers must have the same keys before we call it a schema (data-and-evaluation 3.3, 12)."""
LABEL_WORDS: Final = 5
"""A longer answer is a sentence, not the name of a class."""
MOST_LABELS: Final = 150
"""The largest public intent set in common use (CLINC150) has 150 classes; beyond it we do not guess."""
ROWS_PER_LABEL: Final = 5
"""On average, each class must come back this often before answers count as classes."""


def facts(path: Path) -> Facts:
    """Facts of the file at `path`, by the names of `advisor recommend --fact`; absent means: cannot be told.

    Raises:
        DatasetError: As `convert`.
    """
    return facts_of(convert(path).rows)


def facts_of(rows: Sequence[Row]) -> Facts:
    """Facts of rows: how many pairs, how much raw text, the form of the answers.

    The quality of the labels is never guessed: only a person knows who wrote them.
    """
    answers = [row.answer for row in rows if row.kind == "sft"]
    found: dict[str, str | int | float] = {"n_labelled": len(answers)}
    texts = [row.answer for row in rows if row.kind == "text"]
    if texts:
        found["unlabelled_tokens"] = sum(estimated(texts))
    if labels := classes(answers):
        found |= {"task_type": "classification", "n_labels": len(labels)}
    elif is_schema(answers):
        found["output_strictness"] = "json_schema"
    return found


def classes(answers: Sequence[str]) -> Mapping[str, int]:
    """The answers as classes with their counts, or nothing where they are not classes."""
    counts = Counter(answer.strip() for answer in answers)
    few = 2 <= len(counts) <= min(MOST_LABELS, len(answers) / ROWS_PER_LABEL)
    short = all(len(label.split()) <= LABEL_WORDS and len(label) <= 60 for label in counts)
    return counts if few and short and not any(label[:1] in "{[" for label in counts) else {}


def is_schema(answers: Sequence[str]) -> bool:
    """Whether all answers are JSON objects, and nearly all with the same keys."""
    objects = [_keys(answer) for answer in answers]
    if not objects or None in objects:
        return False
    (_, count), *_ = Counter(objects).most_common(1)
    return count >= SAME_KEYS * len(objects)


def _keys(answer: str) -> frozenset[str] | None:
    """The keys of a JSON object, or None for anything else."""
    if not answer.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    return frozenset(value) if isinstance(value, dict) else None
