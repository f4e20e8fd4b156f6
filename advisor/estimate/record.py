"""One record of a batch: fields in the words of published measurements; null is what nobody knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from advisor.errors import BadValue
from advisor.estimate.setup import Unsupported
from recipes.words import N_

LARGEST: Final = 10**9
"""No number of a record is larger; what is larger is a slip."""


@dataclass(frozen=True, slots=True)
class Record:
    """The fields of one record. Each reader refuses a value of the wrong kind and names the field."""

    fields: Mapping[str, object]

    def text(self, name: str) -> str | None:
        """A word, or None where it is not known."""
        found = self.fields.get(name)
        if found is not None and not isinstance(found, str):
            self.refuse(name, N_("text"))
        return found if isinstance(found, str) else None

    def flag(self, name: str) -> bool | None:
        """Yes or no, or None where it is not known."""
        found = self.fields.get(name)
        if found is not None and not isinstance(found, bool):
            self.refuse(name, N_("true or false"))
        return found if isinstance(found, bool) else None

    def whole(self, name: str, least: int = 1) -> int | None:
        """A whole number from `least`, or None where it is not known."""
        found = self.fields.get(name)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int) or not least <= found <= LARGEST:
            self.refuse(name, N_("a whole number above 0") if least else N_("a whole number from 0"))
        return found if isinstance(found, int) else None

    def share(self, name: str) -> float | None:
        """A number from 0 to 1, or None where it is not known."""
        found = self.fields.get(name)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
            self.refuse(name, N_("a number from 0 to 1"))
        return float(found) if isinstance(found, int | float) else None

    def names(self, name: str) -> tuple[str, ...]:
        """Several words; none where they are not known."""
        found = self.fields.get(name)
        if found is None:
            return ()
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            self.refuse(name, N_("a list of texts"))
        return tuple(found) if isinstance(found, list) else ()

    def table(self, name: str) -> Mapping[str, object]:
        """A table; an empty one where it is not known."""
        found = self.fields.get(name)
        if found is not None and not isinstance(found, dict):
            self.refuse(name, N_("a table"))
        return found if isinstance(found, dict) else {}

    def needed(self, name: str) -> int:
        """A whole number above 0 without which there is no estimate.

        Raises:
            Unsupported: The record does not say.
        """
        found = self.whole(name)
        if found is None:
            raise unknown(name)
        return found

    def choice(self, name: str, known: Mapping[str | None, str | None]) -> str | None:
        """One of several words, as `known` translates it."""
        said = self.text(name)
        word = said and said.lower().replace("-", "").replace("_", "")
        if word not in known:
            self.refuse(name, N_("one of its known words"), said or "")
        return known[word]

    def inner(self, table: str, name: str) -> int | None:
        """A whole number above 0 in a table, or None where it is not known."""
        found = self.table(table).get(name)
        return (
            found if isinstance(found, int) and not isinstance(found, bool) and 0 < found <= LARGEST else None
        )

    def refuse(self, name: str, wanted: str, value: str | None = None) -> NoReturn:
        """Refuse a field's value and say what it could be.

        Raises:
            BadField: Always.
        """
        raise BadField(
            N_("{field} must be {wanted}, not {value!r}"),
            remedy=N_("mend the record, or say null where it is not known"),
            field=name,
            wanted=wanted,
            value=(str(self.fields.get(name)) if value is None else value)[:80],
        )


class BadField(BadValue):
    """A field of a record with a value that it cannot have."""

    worded = frozenset({"wanted"})


def unknown(field: str) -> Unsupported:
    """The refusal of a record that does not say what the estimate depends on."""
    return Unsupported(
        N_("{field} is not known, and the estimate depends on it"),
        remedy=N_("say it in the record"),
        field=field,
    )


def no_formula(problem: str, **values: str) -> Unsupported:
    """The refusal of what no formula describes; a dry run could."""
    return Unsupported(problem, remedy=N_("a dry run can tell: `advisor estimate --dry-run`"), **values)
