"""How one arm did: what the report shows, and what a paired comparison needs besides."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter

from recipes.report import Arm

TOKENS: Final = "nll_tokens"
"""In `per_row`: the tokens over which a row's `nll` is a mean, its weight in the mean of all."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One arm on the held-out rows.

    `per_row` has each score by name, one value a row, in the order of the rows; `nll` is in nats a token and
    `nll_tokens` its weight. `groups` names each row's group. The forward figures are those of reading the
    references: tokens without padding, and seconds.
    """

    arm: Arm
    per_row: Mapping[str, tuple[float, ...]]
    groups: tuple[str, ...]
    forward_tokens: int = 0
    forward_seconds: float = 0.0


_FORM: Final = TypeAdapter(Outcome)


def to_json(outcome: Outcome) -> Mapping[str, object]:
    """The outcome as JSON-ready values: a run keeps the arms that it judged before training on disk."""
    found: Mapping[str, object] = _FORM.dump_python(outcome, mode="json")
    return found


def from_json(found: object) -> Outcome:
    """The inverse of `to_json`.

    Raises:
        pydantic.ValidationError: `found` is not the outcome of an arm.
    """
    return _FORM.validate_python(found)


def speed(outcomes: Iterable[Outcome]) -> float | None:
    """Tokens a second of a forward pass on this machine, over all arms; None if nothing was read."""
    seen = tuple(outcomes)
    seconds = sum(outcome.forward_seconds for outcome in seen)
    return sum(outcome.forward_tokens for outcome in seen) / seconds if seconds else None
