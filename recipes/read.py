"""Read a recipe: TOML text to a frozen `Plan`, or every reason why not, with the line where possible."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Final, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from recipes.errors import Problem, RecipeError
from recipes.migrate import migrate
from recipes.places import places
from recipes.plan import Part, Plan, Probe
from recipes.words import N_

MAX_CHARACTERS: Final = 2**20
"""A recipe is a page, not a data set; beyond this somebody passed the wrong file."""

KINDS: Final = frozenset(
    {"full", "last_layers", "named", "lora", "bottleneck", "prefix", "p_tuning", "prompt_tuning", "ia3"}
)

P = TypeVar("P", bound=Part)


def read(text: str, where: str = "recipe.toml") -> Plan:
    """Read `text` as a recipe. `read(write(plan, why)) == plan` for every plan.

    Raises:
        RecipeError: With all problems at once; `where` is the file that they name.
    """
    _limits(text, where)
    try:
        found: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(where, [_syntax(error)]) from None
    except (RecursionError, ValueError) as error:  # nesting, and integers beyond Python's digit limit
        problem = Problem(N_("this is not a recipe: {reason}"), values={"reason": str(error)[:200]})
        raise RecipeError(where, [problem]) from None
    lifted = migrate(found)
    if isinstance(lifted, Problem):
        raise RecipeError(where, [_placed(lifted, text)])
    return _validated(Plan, lifted, text, where)


def read_probe(text: str, where: str = "probe.json") -> Probe:
    """Read `text` (JSON) as a measurement without training.

    Raises:
        RecipeError: With all problems at once.
    """
    _limits(text, where)
    try:
        found = json.loads(text)
    except (RecursionError, ValueError) as error:
        problem = Problem(N_("this is not JSON: {reason}"), values={"reason": str(error)[:200]})
        raise RecipeError(where, [problem]) from None
    if not isinstance(found, dict):
        raise RecipeError(where, [Problem(N_("this is not a JSON object"))])
    return _validated(Probe, found, "", where)


def made(kind: type[P], values: Mapping[str, object], where: str) -> P:
    """Hold values that a person chose against the schema; `where` is what to call the place they come from.

    Raises:
        RecipeError: With all problems at once.
    """
    return _validated(kind, values, "", where)


def _limits(text: str, where: str) -> None:
    if len(text) > MAX_CHARACTERS:
        problem = Problem(
            N_("this is too large for a recipe: {characters} characters, at most {most}"),
            values={"characters": len(text), "most": MAX_CHARACTERS},
        )
        raise RecipeError(where, [problem])


def _syntax(error: tomllib.TOMLDecodeError) -> Problem:
    place = re.search(r"at line (\d+), column \d+", str(error))
    return Problem(
        N_("this is not TOML: {reason}"),
        line=int(place[1]) if place else None,
        values={"reason": str(error)[:200]},
    )


def _validated(kind: type[P], found: Mapping[str, object], text: str, where: str) -> P:
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        problems = [_placed(_problem(kind, detail), text) for detail in error.errors(include_url=False)]
        raise RecipeError(where, problems) from None


def _problem(kind: type[Part], detail: ErrorDetails) -> Problem:
    """Say one error of pydantic in our words; the remaining kinds keep pydantic's sentence."""
    key = ".".join(str(part) for part in detail["loc"] if part not in _tags(kind))
    name = key.rpartition(".")[2]
    match detail["type"]:
        case "extra_forbidden":
            near = get_close_matches(name, _known_keys(kind), n=1)
            if near:
                return Problem(
                    N_("unknown key {key}; did you mean {near}?"), key, values={"key": key, "near": near[0]}
                )
            return Problem(N_("unknown key {key}"), key, values={"key": key})
        case "contradiction":
            return Problem(detail["ctx"]["msgid"], values=detail["ctx"]["values"])
        case "missing":
            return Problem(N_("the key {key} is missing"), key, values={"key": key})
        case _:
            value = repr(detail["input"])
            values = {
                "key": key,
                "value": value if len(value) <= 80 else value[:77] + "...",
                "reason": detail["msg"],
            }
            return Problem(N_("{key} = {value}: {reason}"), key, values=values)


def _tags(kind: type[Part]) -> frozenset[str]:
    """The tags that pydantic puts into the path of an error inside a tagged union; no file has them there."""
    return KINDS if kind is Plan else frozenset()


def _known_keys(kind: type[Part]) -> list[str]:
    """Every key that some table of such a file may have."""
    schema = kind.model_json_schema()
    tables = (schema, *schema.get("$defs", {}).values())
    return sorted({key for table in tables for key in table.get("properties", {})})


def _placed(problem: Problem, text: str) -> Problem:
    """Add the line (from 1) of the problem's key: the parser of the standard library does not keep it."""
    return replace(problem, line=problem.line or _line_of(problem.key, text))


def _line_of(key: str, text: str) -> int | None:
    """The line of `key`, or of the nearest table around it."""
    lines = dict(places(text))
    while key and key not in lines:
        key = key.rpartition(".")[0]
    return lines.get(key)
