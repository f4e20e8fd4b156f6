"""Old recipes: one function per schema version that was released, each lifting a recipe to the next one."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from recipes.errors import Problem
from recipes.plan import SCHEMA
from recipes.words import N_

Lift = Callable[[dict[str, object]], dict[str, object]]

LIFTS: Final[Mapping[int, Lift]] = MappingProxyType({})
"""By the version that a lift starts from. Version 1 is the first, so there is nothing to lift yet."""


def migrate(recipe: dict[str, object]) -> dict[str, object] | Problem:
    """Lift `recipe` to the present schema, or say why that cannot be done."""
    version = recipe.get("schema_version")
    if version is None:
        return Problem(
            N_("schema_version is missing; this program writes {known}"), "", values={"known": SCHEMA}
        )
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        return Problem(
            N_("schema_version must be a whole number from 1, not {found}"),
            "schema_version",
            values={"found": repr(version)[:80]},
        )
    if version > SCHEMA:
        return Problem(
            N_(
                "the recipe has schema_version {found}, and this program knows up to {known}: update finetune-advisor"
            ),
            "schema_version",
            values={"found": str(version)[:20], "known": SCHEMA},
        )
    while version < SCHEMA:
        recipe, version = LIFTS[version](recipe), version + 1
    return recipe
