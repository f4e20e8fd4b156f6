"""Whether a run that lives still gets anywhere. It is told, with the facts, and nobody is killed for it.

A heartbeat proves only that the process lives: its thread beats while a collective or a disk hangs. So progress is
what counts, and silence beside it: a stopped process says nothing at all.
"""

from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from recipes.report import Event

SILENT_SECONDS: Final = 60.0
"""The trainer writes every 5 seconds at least; twelve missed in a row are no busy moment."""
LEAST_SECONDS: Final = 120.0
"""A first step compiles and allocates; below this nobody needs to be called."""
STEPS: Final = 20
"""A step that takes as long as so many others is no slow step."""
ELSEWHERE_SECONDS: Final = 900.0
"""Loading a large model from a slow disk, or a save of it, takes minutes and tells nothing meanwhile."""
REMEMBERED: Final = 50
PROGRESS: Final = frozenset({"start", "phase", "step", "progress", "eval", "sample", "checkpoint", "packing"})


@dataclass(frozen=True, slots=True)
class Stall:
    """No progress for `seconds`; `silent` if the process did not even say that it lives."""

    seconds: float
    phase: str
    step: int
    silent: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """What was seen of a run and when, in seconds of a clock of the reader's."""

    heard: float
    moved: float
    phase: str = ""
    step: int = 0
    steps: tuple[float, ...] = ()
    paused: bool = False

    def after(self, event: Event, now: float) -> "Watch":
        """The watch after one more event, which was read `now`."""
        seen = replace(self, heard=now)
        if event.type in {"paused", "resumed"}:
            return replace(seen, paused=event.type == "paused", moved=now)
        if event.type not in PROGRESS:
            return seen
        seen = replace(seen, moved=now, phase=event.text("name") if event.type == "phase" else self.phase)
        if event.type == "step":
            lasted = (*self.steps, now - self.moved)[-REMEMBERED:]
            return replace(seen, phase="train", step=int(event.number("step") or 0), steps=lasted)
        return seen

    def stall(self, now: float) -> Stall | None:
        """What is wrong `now` with a run that lives, if anything."""
        if self.paused:
            return None
        silent = now - self.heard >= SILENT_SECONDS
        limit = ELSEWHERE_SECONDS
        if self.phase == "train" and self.steps:
            limit = max(LEAST_SECONDS, STEPS * median(self.steps))
        if silent or now - self.moved >= limit:
            return Stall(now - self.moved, self.phase, self.step, silent)
        return None
