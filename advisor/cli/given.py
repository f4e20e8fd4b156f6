"""A recipe that a person names on the command line."""

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
