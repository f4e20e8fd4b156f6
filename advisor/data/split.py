"""Split rows into training and held-out ones by group, so that no held-out prompt was trained on."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

from advisor.data.convert import prompt_key
from advisor.errors import DatasetError
from recipes.rows import Row
from recipes.words import N_

SHARE: Final = 0.1
"""Of the rows, held out by default: enough to judge, little enough to learn from the rest."""
FEWEST: Final = 100
"""Held-out rows that make a 95 % interval about 20 points wide (Wilson, at a rate of one half)."""
MOST: Final = 500
"""Beyond this the interval is below 9 points, and every measurement costs time."""
LARGEST_SHARE: Final = 1 / 3
"""A small dataset keeps two thirds for training, whatever the interval."""


def split(
    rows: Sequence[Row], held_out_rows: int | None, seed: int
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Part `rows` into (train, held out), each in the order of the file.

    Rows that share a group, a prompt, or a prompt inside a longer conversation stay on one side. The sides are
    drawn by the hash of the group and the seed, so that more data moves no group that was there before.

    Raises:
        DatasetError: There are too few groups, or they are too large.
    """
    wanted = default_size(len(rows)) if held_out_rows is None else held_out_rows
    groups = _groups(rows)
    if len(groups) < 2 or not 0 < wanted < len(rows):
        raise _too_few(len(rows), len(groups), wanted)
    held = _drawn(rows, groups, wanted, seed)
    if not held:
        raise _too_few(len(rows), len(groups), wanted)
    train = tuple(row for number, row in enumerate(rows) if number not in held)
    return train, tuple(row for number, row in enumerate(rows) if number in held)


def default_size(rows: int) -> int:
    """How many rows are held out where nobody says: a tenth, from 100 to 500, never more than a third."""
    return min(max(FEWEST, min(MOST, round(rows * SHARE))), int(rows * LARGEST_SHARE))


def _drawn(rows: Sequence[Row], groups: Sequence[Sequence[int]], wanted: int, seed: int) -> set[int]:
    """Numbers of at most `wanted` rows: whole groups in the order of their hashes, as long as they fit."""
    held = set[int]()
    for group in sorted(groups, key=lambda group: _lot(rows, group, seed)):
        if len(held) + len(group) <= wanted:
            held.update(group)
    return held


def _lot(rows: Sequence[Row], group: Sequence[int], seed: int) -> str:
    name = min(rows[number].source.group for number in group)
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _groups(rows: Sequence[Row]) -> list[list[int]]:
    """Row numbers that belong together."""
    parents = list(range(len(rows)))
    first = dict[str, int]()
    for number, row in enumerate(rows):
        for name in _names(row):
            _join(parents, number, first.setdefault(name, number))
    for number, row in enumerate(rows):
        for name in _earlier_prompts(row):
            if name in first:
                _join(parents, number, first[name])
    groups = dict[int, list[int]]()
    for number in range(len(rows)):
        groups.setdefault(_root(parents, number), []).append(number)
    return list(groups.values())


def _names(row: Row) -> Iterator[str]:
    yield f"group {row.source.group}"
    yield f"prompt {prompt_key(row.prompt or row.messages)}"


def _earlier_prompts(row: Row) -> Iterator[str]:
    """The prompts of earlier answers: a row that trains them must not stand against a held-out row that asks them."""
    for place, turn in enumerate(row.messages[:-1]):
        if turn.role == "assistant" and place:
            yield f"prompt {prompt_key(row.messages[:place])}"


def _root(parents: list[int], number: int) -> int:
    while parents[number] != number:
        parents[number] = parents[parents[number]]
        number = parents[number]
    return number


def _join(parents: list[int], one: int, two: int) -> None:
    parents[_root(parents, one)] = _root(parents, two)


def _too_few(rows: int, groups: int, wanted: int) -> DatasetError:
    return DatasetError(
        N_(
            "{wanted} rows cannot be held out of {rows}: they make {groups} group(s) that share a prompt or a source"
        ),
        remedy=N_(
            "add examples with other prompts, or hold out fewer rows; without held-out rows nothing can be judged"
        ),
        rows=rows,
        groups=groups,
        wanted=wanted,
    )
