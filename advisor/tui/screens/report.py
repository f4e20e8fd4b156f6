"""The receipt: the arms side by side with their intervals, the verdict, measured beside predicted."""

from collections.abc import Iterator
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import DataTable

from advisor.show.report import ARMS, sentence
from advisor.text import N_, inert, t
from advisor.tui.screens.page import Page
from advisor.tui.widgets.panel import Panel
from advisor.tui.widgets.prose import Prose
from advisor.units import gib, seconds
from recipes.report import Arm, Report, Verdict

MARKS: dict[Verdict, str] = {"helped": "✓", "hurt": "✗", "cannot_tell": "?", "not_trained": "-"}


class ReportScreen(Page[bool]):
    """Show a report; True goes on."""

    GUIDE = N_(
        "Whether it helped: each arm on the same held-out rows, with intervals; the score with the star decides."
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "on", N_("Go on"), id="on", priority=True)]

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report = report

    def title_text(self) -> str:
        """Name the step, and the run."""
        if self.report.training is None:
            return t(N_("Measured before any training"))
        return t(N_("Report: {run}"), run=self.report.run)

    def body(self) -> Iterator[Widget]:
        """Yield the verdict, the table and the receipt."""
        with VerticalScroll():
            yield Panel(
                t(N_("Verdict")),
                [
                    Prose(
                        (f"{MARKS[self.report.verdict]} {sentence(self.report)}", "bold"), self._differences()
                    )
                ],
            )
            yield DataTable(id="arms", cursor_type="row", zebra_stripes=True)
            yield Prose(
                t(N_("95 % intervals; {rows} held-out rows."), rows=self.report.held_out_rows), classes="dim"
            )
            if self.report.training:
                yield Panel(t(N_("Measured beside predicted")), [Prose(self._receipt())])

    def fill(self) -> None:
        """Scores as rows, arms as columns; the score that decides comes first and has a star."""
        table, arms = self.query_one("#arms", DataTable), self.report.arms
        table.clear(columns=True)
        table.add_columns(t(N_("per cent right")), *(t(ARMS[arm.name]) for arm in arms))
        names = {name for arm in arms for name in arm.scores}
        for name in sorted(names, key=lambda name: (name != self.report.primary, name)):
            mark = "*" if name == self.report.primary else " "
            table.add_row(Text(f"{mark} {inert(name)}"), *(_rate(arm, name) for arm in arms))
        table.add_row("  " + t(N_("prompt tokens")), *(f"{arm.prompt_tokens:.0f}" for arm in arms))
        table.add_row("  " + t(N_("seconds")), *(f"{arm.seconds:.1f}" for arm in arms))
        table.focus()

    def _differences(self) -> str:
        lines = (
            t(
                N_("{score}: tuned minus {arm} {value:+.0f} points ({low:+.0f} to {high:+.0f}), p = {p:.2g}"),
                score=d.score,
                arm=t(ARMS[d.against]),
                value=100 * d.value,
                low=100 * d.low,
                high=100 * d.high,
                p=d.p_value,
            )
            for d in self.report.differences
            if d.score != "nll"  # not a share; the sentence tells it
        )
        return "".join(f"\n{line}" for line in lines)

    def _receipt(self) -> str:
        training = self.report.training
        if training is None:
            return ""
        memory, duration = training.memory, training.duration
        lines = [
            t(
                N_("memory: {measured}, predicted {predicted}"),
                measured=gib(memory.measured_bytes),
                predicted=gib(memory.predicted_bytes) if memory.predicted_bytes else "-",
            ),
            t(
                N_("time: {measured}, predicted {predicted}"),
                measured=seconds(duration.measured_seconds),
                predicted=_span(duration.predicted_low, duration.predicted_high),
            ),
            t(
                N_("loss: {first:.3f} to {last:.3f} in {steps} steps"),
                first=training.first_loss,
                last=training.last_loss,
                steps=training.steps,
            ),
            t(N_("saved: {path}"), path=training.output),
        ]
        return "\n".join(lines)

    def action_on(self) -> None:
        """Go on."""
        self.dismiss(True)


def _span(low: float | None, high: float | None) -> str:
    """A predicted time, or a dash where nobody could tell."""
    if low is None or high is None:
        return "-"
    return t(N_("{low} to {high}"), low=seconds(low), high=seconds(high))


def _rate(arm: Arm, name: str) -> str:
    rate = arm.scores.get(name)
    return "-" if rate is None else f"{100 * rate.value:.0f} ({100 * rate.low:.0f}-{100 * rate.high:.0f})"
