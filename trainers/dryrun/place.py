"""Where in a run something happens, and which moment of an estimate that is."""

from dataclasses import dataclass
from typing import Literal

Phase = Literal["load", "equip", "forward", "backward", "step"]

BEFORE, AFTER = -1, -2
"""Not in a block: in front of the first one (embeddings), behind the last one (norm, head, loss)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A phase of an optimizer step, and in which decoder block (from 0)."""

    phase: Phase
    block: int = BEFORE
    step: int = 0
