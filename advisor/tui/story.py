"""What the events of a run tell, so far; the run screen shows nothing else."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal

from recipes.report import Event

State = Literal["starting", "running", "paused", "done", "stopped", "error", "died"]
OUTCOMES: frozenset[State] = frozenset({"done", "stopped", "error", "died"})
KEPT_EVENTS = 200
"""As much of the log as somebody scrolls back; the file has the rest."""


@dataclass(frozen=True, slots=True)
class Story:
    """State, counters and curves; bytes, seconds and tokens a second. It changes by events only, never by a key."""

    state: State = "starting"
    phase: str = ""
    method: str = ""
    step: int = 0
    steps: int = 0
    points: tuple[tuple[float, float], ...] = ()
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    peak_bytes: int | None = None
    seconds_left: float | None = None
    saved_step: int | None = None
    message: str = ""
    """Why it failed, in the words of the run."""
    events: tuple[Event, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing will follow."""
        return self.state in OUTCOMES

    @property
    def share(self) -> float:
        """How much of the steps is done."""
        return self.step / self.steps if self.steps else 0.0


def tell(story: Story, events: Iterable[Event]) -> Story:
    """Go on with the story."""
    return reduce(_after, events, story)


def _after(story: Story, event: Event) -> Story:
    fields: dict[str, Any] = event.model_extra or {}
    story = replace(story, events=(*story.events, event)[-KEPT_EVENTS:])
    match event.type:
        case "start":
            step = fields.get("resumed_from") or 0
            kept = tuple(point for point in story.points if point[0] <= step)
            return replace(
                story,
                state="running",
                method=str(fields.get("method", "")),
                step=int(step),
                steps=int(fields.get("steps") or 0),
                points=kept,
            )
        case "phase":
            return replace(story, phase=str(fields.get("name", "")))
        case "step":
            return _step(story, fields)
        case "checkpoint":
            return replace(story, saved_step=int(fields.get("step") or 0))
        case "paused":
            return replace(story, state="paused")
        case "resumed":
            return replace(story, state="running")
        case "done" | "stopped" | "error" as outcome:
            return replace(story, state=outcome, message=str(fields.get("msg") or ""))
    return story


def _step(story: Story, fields: dict[str, Any]) -> Story:
    step, loss = int(fields.get("step") or 0), fields.get("loss")
    return replace(
        story,
        step=step,
        points=story.points if loss is None else (*story.points, (float(step), float(loss))),
        learning_rate=fields.get("lr"),
        tokens_per_second=fields.get("tps"),
        peak_bytes=fields.get("vram_peak") or story.peak_bytes,
        seconds_left=fields.get("eta"),
    )
