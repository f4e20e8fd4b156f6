"""What of a row is trained, token by token, as the trainer told it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens in a row that are trained, or are not, as text."""

    text: str
    tokens: int
    trained: bool


@dataclass(frozen=True, slots=True)
class Mask:
    """One row: its spans, or why it cannot be trained."""

    place: str
    spans: tuple[Span, ...] = ()
    flaw: str = ""
