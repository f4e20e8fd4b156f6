"""What a dataset says about the task: facts for the decision, and only those that can be told from the data."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from advisor.data.convert import convert, prompt_key
from advisor.data.tokens import estimated
from recipes.rows import Row

Facts = Mapping[str, str | int | float]

SAME_KEYS: Final = 0.95
"""Of the JSON answers must have the same keys before we call it a schema (data-and-evaluation 3.3, 12)."""
LABEL_WORDS: Final = 5
"""A longer answer is a sentence, not the name of a class."""
MOST_LABELS: Final = 150
"""The largest public intent set in common use (CLINC150) has 150 classes; beyond it we do not guess."""
REPEATED: Final = 20
"""Inputs with more than one label, from which agreement can be told."""
AGREEMENT: Final = 0.6
"""Kappa below which agreement is no more than moderate (Landis and Koch 1977)."""
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
        if disagree([(prompt_key(row.messages[:-1]), row.answer) for row in rows if row.kind == "sft"]):
            found["label_agreement"] = "low"
    elif is_schema(answers):
        found["output_strictness"] = "json_schema"
    return found


def classes(answers: Sequence[str]) -> Mapping[str, int]:
    """The answers as classes with their counts, or nothing where they are not classes."""
    counts = Counter(answer.strip() for answer in answers)
    few = 2 <= len(counts) <= min(MOST_LABELS, len(answers) / ROWS_PER_LABEL)
    short = all(len(label.split()) <= LABEL_WORDS and len(label) <= 60 for label in counts)
    return counts if few and short and not any(label[:1] in "{[" for label in counts) else {}


def disagree(labelled: Sequence[tuple[str, str]]) -> bool:
    """Whether inputs that were labelled more than once show that the labels do not agree.

    Agreement beyond chance (Fleiss 1971) over the repeated inputs. It can only show that people disagree: equal labels
    may be copies of one row, and then say nothing.

    Args:
        labelled: A key of the input, and its label.
    """
    answers: dict[str, Counter[str]] = {}
    for key, label in labelled:
        answers.setdefault(key, Counter())[label.strip()] += 1
    repeated = [counts for counts in answers.values() if counts.total() > 1]
    if len(repeated) < REPEATED:
        return False
    pairs = [sum(n * (n - 1) for n in c.values()) / (c.total() * (c.total() - 1)) for c in repeated]
    whole = sum(repeated, Counter())
    by_chance = sum((n / whole.total()) ** 2 for n in whole.values())
    if by_chance == 1:
        return False
    return (sum(pairs) / len(pairs) - by_chance) / (1 - by_chance) < AGREEMENT


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
