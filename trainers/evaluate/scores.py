"""What an answer is worth: scores in [0, 1] of one generated answer against its row. Standard library."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from recipes.rows import NLL, Check, Json, Row, json_object

RESERVED: Final = frozenset({"exact", "fields", "stopped", NLL})
"""Names that a check of a row cannot have."""
MEANS: Final = frozenset({"fields", NLL})
"""Scores that are shares or amounts; all others say yes or no."""

_HOLDS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "equals": str.__eq__,
    "contains": str.__contains__,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
}


def score(row: Row, answer: str, *, stopped: bool, wanted: Sequence[str]) -> dict[str, float]:
    """Each score of `wanted` but the likelihood, for one answer."""
    found = {
        "exact": lambda: float(plain(answer) == plain(row.answer)),
        "fields": lambda: fields(row.answer, answer),
        "stopped": lambda: float(stopped),
    }
    return {
        name: found[name]() if name in found else checked(row.checks, name, answer)
        for name in wanted
        if name != NLL
    }


def plain(text: str) -> str:
    """The text as `exact` compares it: compatible forms made equal (NFKC), no white space at the ends."""
    return unicodedata.normalize("NFKC", text).strip()


def checked(checks: Sequence[Check], name: str, answer: str) -> float:
    """1 if all checks of this name hold together."""
    said = answer.strip()
    return float(all(_HOLDS[check.kind](said, check.value) for check in checks if check.name == name))


def fields(reference: str, answer: str) -> float:
    """The share of the reference's JSON fields that the answer has with the same value and type.

    >>> fields('{"item": "lamp", "urgent": false}', '{"item": "lamp", "urgent": "no"}')
    0.5
    """
    wanted, given = json_object(reference), json_object(answer)
    if wanted is None or given is None:
        return 0.0
    if not wanted:
        return float(not given)
    return sum(key in given and same(value, given[key]) for key, value in wanted.items()) / len(wanted)


def same(one: Json, other: Json) -> bool:
    """Equal in value and type: in Python `True == 1` and `1 == 1.0`, in JSON they are not the same."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other
