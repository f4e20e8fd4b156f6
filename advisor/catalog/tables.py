"""Reading the fact tables of this package: TOML in, frozen rows out."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any


def rows(table: str, key: str) -> list[Mapping[str, Any]]:
    """Return the rows `[[key]]` of `advisor/catalog/<table>.toml`, in the order of the file."""
    text = files("advisor.catalog").joinpath(f"{table}.toml").read_text(encoding="utf-8")
    found: list[Mapping[str, Any]] = tomllib.loads(text)[key]
    return found
