"""The bibliography: what the ids in reasons, terms and defaults stand for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from types import MappingProxyType

from advisor.catalog.tables import rows


@dataclass(frozen=True, slots=True)
class Source:
    """One work: a paper, a documentation, a measurement of ours. `seen` says how much of it was read."""

    id: str
    title: str
    where: str
    seen: str
    checked: date


@cache
def sources() -> Mapping[str, Source]:
    """Every source, by id."""
    return MappingProxyType({row["id"]: Source(**row) for row in rows("sources", "source")})
