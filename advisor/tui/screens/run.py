"""A run as it goes: state, progress, memory against the estimate, loss, log. Leaving this screen never ends a run."""

from asyncio import to_thread
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from time import monotonic
from typing import ClassVar, Literal

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from advisor.plan.proposal import Reason
from advisor.run import shelf
from advisor.run.directory import Run, alive
from advisor.run.follow import events, outcome, stalled
from advisor.run.retry import again
from advisor.run.stall import Stall, Watch
from advisor.show.failure import problem
from advisor.show.report import ARMS
from advisor.show.run import PHASES, ending, line, news, retried
from advisor.show.run import stalled as said_stalled
from advisor.text import N_, t
from advisor.tui.screens.page import Page
from advisor.tui.story import State, Story, tell
from advisor.tui.widgets.log import Log
from advisor.tui.widgets.loss_plot import LossPlot
from advisor.tui.widgets.memory_bar import bar
from advisor.tui.widgets.prose import Prose, Styled
from advisor.units import gib
from recipes.errors import Failure
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
Left = Literal["ended", "detached"]


class RunScreen(Page[Left]):
    """Follow a run; dismiss with "detached" while it goes on, with "ended" or None (a step back) when it is over."""

    GUIDE = N_(
        "The run is a process of its own: leaving this screen or the program does not end it. A pause or a stop saves first."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,d", "detach", N_("Detach"), id="detach"),
        Binding("escape", "back", N_("Back"), id="leave"),
        Binding("space", "pause", N_("Pause/resume"), id="pause"),
        Binding("s", "stop", N_("Stop & save"), id="stop"),
        Binding("enter", "on", N_("Go on"), id="on"),
    ]

    def __init__(
        self, run: Run, *, name: str = "", predicted_bytes: int | None = None, tries: int = 0
    ) -> None:
        """Follow `run`; whoever started it may let it go on with less `tries` times, if memory runs out."""
        super().__init__()
        self.tries, self.going_on = tries, False
        self.seen = Watch(monotonic(), monotonic())
        self.stall: Stall | None = None
        self.lived = True
        self.followed, self.predicted_bytes = run, predicted_bytes
        self.run_name = name or run.path.name
        self.read_to, self.story = run.offset, Story()

    def title_text(self) -> str:
        """Name the run."""
        return t(N_("Run: {name}"), name=self.run_name)

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
            log = Log(id="log")
            log.border_title = t(N_("log"))
            yield log

    def on_mount(self) -> None:
        """Look for news from now on."""
        self.poll()
        self.set_interval(1 / POLLS_PER_SECOND, self.poll)

    def poll(self) -> None:
        """Read what was written since, and show it; a process that died without a last word is said to be dead."""
        if self.rebuilding:
            return
        lives = alive(self.followed)  # asked before reading: what was written before death is read after it
        found = tuple(events(self.followed.events, self.read_to))
        new = [event for event, _ in found]
        self.read_to = found[-1][1] if found else self.read_to
        self.story = tell(self.story, new)
        before, now = (self.story.state, self.stall, self.lived), monotonic()
        self.seen = reduce(lambda watch, event: watch.after(event, now), new, self.seen)
        self.stall = self.seen.stall(now) if lives else None
        if not lives and not self.story.ended:
            self.story = replace(self.story, state="died")
        if self.story.state == "error" and self.tries and not self.going_on:
            self.tries, self.going_on = self.tries - 1, True
            self.run_worker(self._again())
        self.lived = lives
        if new or self.stall or before != (self.story.state, self.stall, self.lived):
            self._show(new)
            self.refresh_bindings()

    async def _again(self) -> None:
        """Go on with less, if memory ran out; else it has ended."""
        try:
            further = await to_thread(again, self.followed, outcome(self.followed), _said)
        except Failure as failure:
            self.query_one("#log", Log).say(
                t(N_("it cannot go on with less: {reason}"), reason=problem(failure))
            )
            further = None
        if further is None:
            self.tries = 0
        else:
            self.followed, self.read_to = further.run, further.run.offset
            self.story = replace(self.story, state="starting")
            self.query_one("#log", Log).say(retried(further.changes, _said(further.reason)))
        self.going_on = False
        self.refresh_bindings()

    def fill(self) -> None:
        """Show everything again."""
        self.query_one("#log", Log).forget()
        self._show(self.story.events)

    def _show(self, new: Sequence[Event]) -> None:
        story = self.story
        mark, word = STATES[story.state]
        share = 1.0 if story.state == "done" else story.progress.share
        self.query_one("#state", Prose).say((f"{mark} {t(word)}", "bold"), "  ", self._now())
        self.query_one("#progress", Prose).say(f"[{bar(share, BAR)}]")
        known = (*self._endings(), self._peak())
        peak = self.query_one("#peak", Prose)
        peak.say(*known)
        peak.display = any(known)
        plot = self.query_one("#plot", LossPlot)
        plot.display = bool(story.points)
        plot.show(story.points)
        log = self.query_one("#log", Log)
        for event in new:
            if said := sentence(event):
                log.say(said)

    def _now(self) -> str:
        """What it does, or what to do when it does nothing more."""
        if self.story.state == "done":
            return t(N_("press Enter to go on"))
        if self.stall and not self.story.ended:
            return said_stalled(stalled(self.stall))
        progress = self.story.progress
        return line(replace(progress, left_seconds=None) if self.story.ended else progress)

    def _endings(self) -> list[Styled]:
        """What to know and do when it did not come to its end."""
        if not self.story.ended:
            return []
        end = outcome(self.followed)
        lines = ending(
            end.state,
            where=str(self.followed.path),
            step=end.step,
            saved_step=end.saved_step,
            code=end.code,
            message=end.message,
            remedy=end.remedy,
        )
        return [(f"{said}\n", "$text-warning") for said in lines]

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
            case "pause" | "stop" | "detach":
                return not self.story.ended
            case "on" | "back":
                return self.story.ended and not self.going_on
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

    def action_detach(self) -> None:
        """Leave; the run goes on."""
        self.dismiss("detached")

    def action_on(self) -> None:
        """It is over: go on."""
        self.dismiss("ended")


def sentence(event: Event) -> str:
    """What an event says, as a line of the log; "" for what the progress says already."""
    match event.type:
        case "phase":
            return t(PHASES.get(event.text("name"), event.text("name")))
        case "step":
            return t(
                N_("step {step}  loss {loss}"),
                step=_brief(event.number("step")),
                loss=_brief(event.number("loss")),
            )
        case "checkpoint":
            return t(N_("safe up to step {step}"), step=_brief(event.number("step")))
        case "eval":
            return _scores(event)
        case "sample":
            return f"{_arm(event)}{t(N_(': '))}{_text(event, 'prompt')} > {_text(event, 'text')}"
    return news(event) or ""


def _said(why: Reason) -> str:
    return t(why.text, **why.values)


def _arm(event: Event) -> str:
    arm = event.text("arm")
    return t(ARMS.get(arm, arm))


def _text(event: Event, name: str) -> str:
    return " ".join(event.text(name).split())


def _scores(event: Event) -> str:
    """The scores of an arm, or the held-out loss while training."""
    metrics = (event.model_extra or {}).get("metrics")
    shown = metrics.items() if isinstance(metrics, dict) else ()
    scores = "  ".join(f"{name} {_brief(v)}" for name, v in shown if isinstance(v, int | float))
    return t(N_("held out: {scores}"), scores=f"{_arm(event)}  {scores}".strip())


def _brief(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"
