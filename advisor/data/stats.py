"""What a plan needs to know of a dataset: counts and lengths."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class DataStats:
    """Counts of one set of rows. Token figures come from the model's tokenizer, or are estimates from characters."""

    rows: int
    tokens: int
    trained_tokens: int
    longest_tokens: int
    p99_tokens: int
    mean_tokens: float
    counted: Literal["tokenizer", "estimated"]
