"""A recipe, or records for a batch, that a person names on the command line."""

import json
from pathlib import Path

from advisor import reading
from advisor.errors import BadValue
from recipes.plan import Plan
from recipes.read import read
from recipes.words import N_


def plan(path: Path) -> Plan:
    """The plan of the recipe at `path`.

    Raises:
        BadValue: The file cannot be read, or is no text.
        RecipeError: It is not a recipe, with every reason.
    """
    try:
        text = reading.text(path)
    except OSError as error:
        raise BadValue(
            N_("the recipe cannot be read: {reason}"),
            remedy=N_("write one with: advisor recipe"),
            where=str(path),
            reason=error.strerror or str(error),
        ) from None
    except UnicodeDecodeError:
        raise BadValue(
            N_("the recipe is not UTF-8 text"), remedy=N_("write one with: advisor recipe"), where=str(path)
        ) from None
    return read(text, where=str(path))


def records(path: Path) -> list[object]:
    """The records of the JSON file at `path`: one object, or a list of them (also as `data` of a case file).

    Raises:
        BadValue: The file cannot be read, or is no JSON object or list.
    """
    try:
        found = json.loads(reading.text(path))
    except OSError as error:
        raise BadValue(
            N_("the records cannot be read: {reason}"),
            remedy=N_("give a JSON file with one object or a list of them"),
            where=str(path),
            reason=error.strerror or str(error),
        ) from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict | list):
        raise BadValue(
            N_("the file is not JSON with one object or a list of objects"),
            remedy=N_("give a JSON file with one object or a list of them"),
            where=str(path),
        )
    inner = found.get("data") if isinstance(found, dict) else found
    return inner if isinstance(inner, list) else [found]
