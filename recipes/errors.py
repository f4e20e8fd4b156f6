"""What can be wrong with something a person gave us, said so that they can mend it.

Failure              a problem the reader can solve: what, where, what to do
+-- RecipeError      a recipe that cannot be used; names every problem at once
+-- (advisor.errors, trainers.errors: one class per thing a caller does differently)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from recipes.exits import Exit
from recipes.words import N_

Value = str | int | float


class Failure(Exception):
    """A problem the reader can solve.

    `problem` and `remedy` are message ids (marked with `N_`) with `{name}` places that `values` fill, so that
    the top floor can say them in the reader's language. `str()` gives the English sentence.
    """

    exit_code: ClassVar[Exit] = Exit.USAGE
    code: ClassVar[str] = "P0000"
    worded: ClassVar[frozenset[str]] = frozenset()
    """Names of values that are words, message ids themselves."""

    def __init__(self, problem: str, *, remedy: str, where: str = "", **values: Value) -> None:
        self.problem, self.remedy, self.where, self.values = problem, remedy, where, dict(values)
        super().__init__(problem, remedy, where, values)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.problem.format(**self.values)}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a recipe, and where: a dotted key and, if it can be found, a line (from 1)."""

    text: str
    key: str = ""
    line: int | None = None
    values: Mapping[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text.format(**self.values)


class RecipeError(Failure):
    """A recipe that cannot be used; `problems` names every reason, not only the first."""

    exit_code = Exit.USAGE
    code = "P0100"

    def __init__(self, where: str, problems: Iterable[Problem], *, remedy: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__(
            N_("the recipe has {count} problem(s)"),
            remedy=remedy or N_("mend the lines named above, or write the recipe anew with `advisor recipe`"),
            where=where,
            count=len(self.problems),
        )

    def __str__(self) -> str:
        lines = (f"{self.where}{f':{p.line}' if p.line else ''}: {p}" for p in self.problems)
        return "\n".join(lines)
