"""A run as it goes: state, progress, memory against the estimate, loss, log. Leaving this screen never ends a run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import RichLog

from advisor.run import shelf
from advisor.run.directory import Run, alive
from advisor.run.follow import events, last_words
from advisor.text import N_, inert, t
from advisor.tui.screens.page import Page
from advisor.tui.story import State, Story, tell
from advisor.tui.widgets.loss_plot import LossPlot
from advisor.tui.widgets.memory_bar import bar
from advisor.tui.widgets.prose import Prose
from advisor.units import gib, percent, seconds
from recipes.report import Event

POLLS_PER_SECOND = 4
"""Quick enough for the eye; 4 to 5 % of a core were measured with it."""
BAR = 30

STATES: dict[State, tuple[str, str]] = {
    "starting": ("-", N_("starting")),
    "running": ("✓", N_("running")),
    "paused": ("!", N_("paused")),
    "done": ("✓", N_("done")),
    "stopped": ("!", N_("stopped")),
    "error": ("✗", N_("failed")),
    "died": ("✗", N_("died")),
}
PHASES = {
    "import": N_("loading the libraries"),
    "load": N_("loading the model"),
    "tokenize": N_("reading the rows"),
    "train": N_("training"),
    "evaluate": N_("evaluating"),
    "save": N_("saving"),
}

Left = Literal["ended", "detached"]


class RunScreen(Page[Left]):
    """Follow a run; dismiss with "ended" when it is over, with "detached" (or None) while it goes on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,d", "back", N_("Detach"), id="detach"),
        Binding("space", "pause", N_("Pause/resume"), id="pause"),
        Binding("s", "stop", N_("Stop & save"), id="stop"),
        Binding("enter", "on", N_("Go on"), id="on"),
    ]

    def __init__(self, run: Run, *, predicted_bytes: int | None = None) -> None:
        super().__init__()
        self.followed, self.predicted_bytes = run, predicted_bytes
        self.read_to, self.story = run.offset, Story()

    def title_text(self) -> str:
        """Name the run."""
        return t(N_("Run: {name}"), name=self.followed.path.name)

    def body(self) -> Iterator[Widget]:
        """Yield the state, the bars, the plot and the log."""
        yield Prose(id="state")
        yield Prose(id="progress")
        yield Prose(id="peak")
        with Horizontal(id="live"):
            plot = LossPlot(id="plot")
            plot.add_class("panel")
            plot.border_title = t(N_("training loss"))
            yield plot
            log = RichLog(id="log", markup=False, wrap=True, min_width=20, max_lines=500, classes="panel")
            log.border_title = t(N_("log"))
            yield log

    def on_mount(self) -> None:
        """Look for news from now on."""
        self.poll()
        self.set_interval(1 / POLLS_PER_SECOND, self.poll)

    def poll(self) -> None:
        """Read what was written since, and show it; a process that died without a last word is said to be dead."""
        lives = alive(self.followed)  # asked before reading: what was written before death is read after it
        new = []
        for event, self.read_to in events(self.followed.events, self.read_to):
            new.append(event)
        self.story = tell(self.story, new)
        if not lives and not self.story.ended:
            self.story = replace(self.story, state="died", message=last_words(self.followed))
        if new or self.story.ended:
            self._show(new)
            self.refresh_bindings()

    def fill(self) -> None:
        """Show everything again."""
        self.query_one("#log", RichLog).clear()
        self._show(self.story.events)

    def _show(self, new: Sequence[Event]) -> None:
        story = self.story
        mark, word = STATES[story.state]
        self.query_one("#state", Prose).say((f"{mark} {t(word)}", "bold"), "  ", _facts(story))
        self.query_one("#progress", Prose).say(
            f"[{bar(story.share, BAR)}] {percent(story.share)}", _left(story)
        )
        self.query_one("#peak", Prose).say(story.message or self._peak())
        self.query_one("#plot", LossPlot).show(story.points)
        log = self.query_one("#log", RichLog)
        for event in new:
            if line := sentence(event):
                log.write(Text(inert(line)))

    def _peak(self) -> str:
        measured, predicted = self.story.peak_bytes, self.predicted_bytes
        if not measured or not predicted:
            return t(N_("memory: {size}"), size=gib(measured)) if measured else ""
        words = t(
            N_("peak {measured} of {predicted} predicted"), measured=gib(measured), predicted=gib(predicted)
        )
        return f"[{bar(measured / predicted, BAR)}] {words}"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what is possible now: state comes from events only."""
        match action:
            case "pause" | "stop":
                return not self.story.ended
            case "on":
                return self.story.ended
        return True

    def action_pause(self) -> None:
        """Wish for a pause, or for its end; the state changes when the run says so."""
        if self.story.state == "paused":
            shelf.resume(self.followed)
        else:
            shelf.wish(self.followed, "pause")

    def action_stop(self) -> None:
        """Wish for an end; the run saves first."""
        shelf.wish(self.followed, "stop")

    def action_back(self) -> None:
        """Leave; the run goes on."""
        self.dismiss("ended" if self.story.ended else "detached")

    def action_on(self) -> None:
        """It is over: go on."""
        self.dismiss("ended")


def _facts(story: Story) -> str:
    """One line of numbers: only those that are known."""
    parts = [story.method]
    if story.phase and not story.ended:
        parts.append(t(PHASES.get(story.phase, story.phase)))
    if story.steps:
        parts.append(t(N_("step {step}/{steps}"), step=story.step, steps=story.steps))
    if story.points:
        parts.append(t(N_("loss {loss:.3f}"), loss=story.points[-1][1]))
    if story.learning_rate is not None:
        parts.append(t(N_("rate {rate:.1e}"), rate=story.learning_rate))
    if story.tokens_per_second:
        parts.append(t(N_("{speed:.0f} tokens/s"), speed=story.tokens_per_second))
    return "  ".join(filter(None, parts))


def _left(story: Story) -> str:
    if story.seconds_left is None or story.ended:
        return ""
    return "  " + t(N_("about {time} left"), time=seconds(story.seconds_left))


def sentence(event: Event) -> str:
    """What an event says, as a line of the log; "" for what is only a sign of life."""
    fields: dict[str, Any] = event.model_extra or {}
    match event.type:
        case "heartbeat":
            return ""
        case "phase":
            return t(PHASES.get(str(fields.get("name")), str(fields.get("name"))))
        case "step":
            return t(N_("step {step}"), step=fields.get("step")) + "  " + _brief(fields.get("loss"))
        case "checkpoint":
            return t(N_("safe up to step {step}"), step=fields.get("step"))
        case "warn" | "error":
            return f"{t(STATES['error'][1]) if event.type == 'error' else '!'} {fields.get('msg', '')}"
    shown = (f"{name}={_brief(value)}" for name, value in fields.items() if value is not None)
    return f"{event.type} {' '.join(shown)}"


def _brief(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
