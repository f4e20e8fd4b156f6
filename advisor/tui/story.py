"""What the events of a run tell, so far; the run screen shows nothing else."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Literal

from advisor.show.run import Progress, advance
from recipes.report import Event

State = Literal["starting", "running", "paused", "done", "stopped", "error", "died"]
KEPT_EVENTS = 200
"""As much of the log as somebody scrolls back; the file has the rest."""


@dataclass(frozen=True, slots=True)
class Story:
    """State, progress and curve. It changes by events only, never because a key was pressed.

    `points` are (step, loss in nats a token).
    """

    state: State = "starting"
    progress: Progress = field(default_factory=Progress)
    points: tuple[tuple[float, float], ...] = ()
    peak_bytes: float | None = None
    events: tuple[Event, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing will follow."""
        return self.state in {"done", "stopped", "error", "died"}


def tell(story: Story, events: Iterable[Event]) -> Story:
    """Go on with the story."""
    return reduce(_after, events, story)


def _after(story: Story, event: Event) -> Story:
    story = replace(
        story, progress=advance(story.progress, event), events=(*story.events, event)[-KEPT_EVENTS:]
    )
    match event.type:
        case "start":
            resumed = event.number("resumed_from") or 0
            return replace(story, state="running", points=tuple(p for p in story.points if p[0] <= resumed))
        case "step":
            loss = event.number("loss")
            point = () if loss is None else ((event.number("step") or 0.0, loss),)
            peak = event.number("vram_peak") or story.peak_bytes
            return replace(story, points=(*story.points, *point), peak_bytes=peak)
        case "paused":
            return replace(story, state="paused")
        case "resumed":
            return replace(story, state="running")
        case "done" | "stopped" | "error" as outcome:
            return replace(story, state=outcome)
    return story
