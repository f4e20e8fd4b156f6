"""Write a recipe: a plan as TOML, with the reason above each value. The only place that uses Jinja."""

import json
import textwrap
from collections.abc import Mapping
from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from recipes.plan import Part, Plan

WIDTH: Final = 100
"""Columns of a comment: a recipe is read in an editor and in a terminal."""


def write(plan: Plan, why: Mapping[str, str]) -> str:
    """Render `plan` as TOML with the reason for each value above it.

    `why` maps dotted keys ("schedule.learning_rate"; "" is the heading) to sentences in the reader's language.
    `read(write(plan, why)) == plan` for every plan and every `why`; the comments are for people only.
    """
    return _environment().get_template("recipe.toml.jinja").render(plan=plan, why=why)


def toml(value: str | float | bool | tuple[str, ...]) -> str:
    """Write one value as TOML. JSON is TOML here but for DEL, which TOML forbids unescaped."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")


def remark(text: str) -> str:
    """Write `text` as TOML comments: no character that TOML forbids there, and no line longer than `WIDTH`."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return "\n".join(f"# {line}" for line in textwrap.wrap(plain, WIDTH - 2)) or "#"


def key(name: str) -> str:
    """Write the name of a field as a bare TOML key; names come from the schema, never from a file."""
    if not name.isidentifier():
        raise ValueError(f"not a bare key: {name!r}")
    return name


def rendered(text: str) -> str:
    """Pass on what a macro of ours has already written through the other filters."""
    return text


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("recipes"),
        undefined=StrictUndefined,  # a misspelt field is an error, never an empty string
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"toml": toml, "remark": remark, "key": key, "rendered": rendered}
    environment.tests["part_of_plan"] = lambda value: isinstance(value, Part)
    return environment
