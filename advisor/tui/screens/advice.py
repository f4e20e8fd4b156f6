"""The advice: what to do, why, how sure we are, and what would change our mind."""

from collections.abc import Iterable, Iterator
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget

from advisor.decide.advice import Advice, Band
from advisor.decide.leaves import ATTACHMENTS, LEAVES
from advisor.text import N_, t
from advisor.tui.screens.page import Page
from advisor.tui.widgets.panel import Panel
from advisor.tui.widgets.prose import Prose

BANDS: dict[Band, tuple[str, str, str]] = {
    "high": ("✓", N_("high"), "$text-success"),
    "medium": ("!", N_("medium"), "$text-warning"),
    "low": ("?", N_("low"), "$text-error"),
}
ROLES = {
    "baseline": N_("first, as the measure of all else"),
    "primary": N_("the main step"),
    "companion": N_("together with it"),
}
COME_BACK = N_(
    "Come back when this was tried and measured and is still not good enough: then training has something to beat."
)


class AdviceScreen(Page[bool]):
    """Show an advice; True goes on (to the plan, or, where nothing is trained, to the end)."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "on", N_("Go on"), id="on")]

    def __init__(self, advice: Advice, *, trains: bool) -> None:
        super().__init__()
        self.advice, self.trains = advice, trains

    def title_text(self) -> str:
        """Name the step."""
        return t(N_("Advice"))

    def body(self) -> Iterator[Widget]:
        """Yield what to do at the left, what could change it at the right (below, where it is narrow)."""
        with VerticalScroll(id="columns"):
            with Vertical(classes="column"):
                yield Panel(t(N_("Our advice")), self._verdict())
                yield from _panel(N_("Step by step"), self._stages())
                yield from _panel(N_("Why: the way through the tree"), self._way())
            with Vertical(classes="column"):
                yield from _panel(N_("What would change our mind"), self._flips())
                yield from _panel(N_("Worth finding out next"), self._asks())
                yield from _panel(N_("Take care"), self._warnings())
                yield from _panel(N_("Also possible"), self._alternatives())
                yield from _panel(N_("Struck out"), self._excluded())

    def on_mount(self) -> None:
        """Let the arrow keys scroll."""
        self.query_one("#columns").focus()

    def _verdict(self) -> Iterator[Widget]:
        advice = self.advice
        mark, word, style = BANDS[advice.confidence.band]
        yield Prose((t(LEAVES[advice.primary].means), "bold $text-accent"), id="primary")
        yield from (Prose(t(stage.why)) for stage in advice.plan if stage.role == "primary")
        yield Prose((f"{mark} ", style), t(N_("Confidence: ")), (t(word), style))
        yield from (Prose(("  " + t(cap), "$text-muted")) for cap in advice.confidence.caps)
        if advice.open:
            yield Prose(t(N_("Still open: this is only the cheapest first step. Answer more to settle it.")))
        if not self.trains:
            yield Prose((t(N_("Do not train now.")), "bold"), " ", t(COME_BACK))
        if advice.stop_rule:
            yield Prose(t(N_("Stop when: ")), t(advice.stop_rule))

    def _stages(self) -> Iterator[Widget]:
        for stage in self.advice.plan:
            more = "".join(f"\n   + {t(ATTACHMENTS[code])}" for code in stage.attachments)
            yield Prose(
                (f"{stage.stage}. {t(LEAVES[stage.leaf].means)}", "bold"), f"  {t(ROLES[stage.role])}", more
            )

    def _way(self) -> Iterator[Widget]:
        for step in self.advice.path:
            mark = "?" if step.assumed else "✓"
            yield Prose(
                f"{mark} {step.start} ",
                (step.answer, "bold"),
                f" > {step.end}  ",
                (t(step.why), "$text-muted"),
            )

    def _flips(self) -> Iterator[Widget]:
        for flip in self.advice.flips:
            yield Prose(
                (t(flip.change), "bold"),
                " > ",
                t(LEAVES[flip.primary].means),
                ("\n  " + t(flip.experiment), "$text-muted"),
            )
        if self.advice.cheapest_test:
            yield Prose(t(N_("Cheapest test: ")), t(self.advice.cheapest_test))

    def _asks(self) -> Iterator[Widget]:
        for ask in self.advice.ask_next:
            yield Prose(
                "? ", t(ask.question), (t(N_(" (about {minutes} min)"), minutes=ask.minutes), "$text-muted")
            )

    def _warnings(self) -> Iterator[Widget]:
        yield from (Prose(("! ", "$text-warning"), t(warned.message)) for warned in self.advice.warnings)

    def _alternatives(self) -> Iterator[Widget]:
        for other in self.advice.alternatives:
            yield Prose((t(LEAVES[other.leaf].means), "bold"), "  ", t(other.why))

    def _excluded(self) -> Iterator[Widget]:
        for struck in self.advice.excluded:
            yield Prose(
                ("✗ ", "$text-error"),
                (t(LEAVES[struck.leaf].means), "bold"),
                "  ",
                t(struck.reason),
                ("\n  " + t(N_("possible again: ")) + t(struck.relax), "$text-muted") if struck.relax else "",
            )

    def action_on(self) -> None:
        """Go on."""
        self.dismiss(True)


def _panel(heading: str, lines: Iterable[Widget]) -> Iterator[Widget]:
    """A panel, or nothing where there is nothing to say."""
    if shown := list(lines):
        yield Panel(t(heading), shown)
