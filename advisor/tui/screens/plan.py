"""The plan: each value with its reason, what was conceded so that it fits, and what it will need."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget

from advisor.plan.alternatives import Alternative, proposal
from advisor.plan.proposal import Proposal
from advisor.show.estimate import MOMENTS
from advisor.show.plan import flat, line, sentence
from advisor.text import N_, t
from advisor.tui.screens.page import Page
from advisor.tui.widgets.memory_bar import MemoryBars, Need
from advisor.tui.widgets.panel import Panel
from advisor.tui.widgets.prose import Prose
from advisor.units import gib, seconds
from recipes.plan import method

SHORT = 40
"""Cells of a value: sums and prompts stand in the recipe in full."""
OFFERED = 6
"""Other plans that are shown; `advisor plan` has them all."""


class PlanScreen(Page[Proposal]):
    """Show a proposal, and others that fit: a digit takes one of them; Enter writes what is shown as a recipe."""

    GUIDE = N_(
        "The plan with the reason for each value. A digit takes another plan that fits; Enter writes the recipe, which you can edit."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "on", N_("Write the recipe"), id="on"),
        *(Binding(str(digit), f"take({digit})", show=False) for digit in range(1, OFFERED + 1)),
    ]

    def __init__(self, proposal: Proposal, *, usable_bytes: int, others: Sequence[Alternative] = ()) -> None:
        super().__init__()
        self.proposal, self.usable_bytes = proposal, usable_bytes
        self.others = tuple(others[:OFFERED])

    def title_text(self) -> str:
        """Name the step and the model."""
        return t(N_("Plan for {model}"), model=self.proposal.plan.model.id)

    def body(self) -> Iterator[Widget]:
        """Yield what it needs at the left, its values with their reasons at the right (below, where it is narrow)."""
        proposal = self.proposal
        with VerticalScroll(id="columns"):
            with Vertical(classes="column"):
                yield Panel(t(N_("What it needs")), self._needs(), id="needs")
                if proposal.concessions:
                    yield Panel(
                        t(N_("Conceded so that it fits")),
                        [Prose("- ", sentence(r), hang=2) for r in proposal.concessions],
                    )
                if self.others:
                    yield Panel(t(N_("Also fits: press its digit")), self._others(), id="others")
            yield Panel(t(N_("Each value and its reason")), self._values())

    def on_mount(self) -> None:
        """Let the arrow keys scroll."""
        self.query_one("#columns").focus()

    def fill(self) -> None:
        """Draw the bar."""
        needed = round(self.proposal.estimate.process.high)
        need = Need(method(self.proposal.plan.adaptation), self.proposal.fit, needed)
        self.query_one("#bar", MemoryBars).show((need,), self.usable_bytes)

    def _needs(self) -> Iterator[Widget]:
        estimate, length = self.proposal.estimate, self.proposal.seconds
        yield MemoryBars(id="bar")
        yield Prose(
            t(
                N_("of it tensors: {size}, most at: {moment}"),
                size=gib(estimate.allocated),
                moment=t(MOMENTS.get(estimate.winner.name, estimate.winner.name)),
            )
        )
        terms = sorted(estimate.winner.terms, key=lambda term: -term.bytes)
        for term in terms:
            if term.bytes:
                yield Prose(
                    f"  {gib(term.bytes):>10}  ",
                    t(term.name),
                    (f"  {term.arithmetic}", "dim"),
                    hang=14,
                )
        if length:
            yield Prose(
                t(N_("training time: {low} to {high}"), low=seconds(length.low), high=seconds(length.high))
            )

    def _values(self) -> Iterator[Widget]:
        for key, value in flat(self.proposal.plan.model_dump(exclude_none=True)):
            reason = self.proposal.why.get(key)
            said = f"  {sentence(reason)}" if reason else ""
            yield Prose((f"{key} = {_short(value)}", "bold"), (said, "dim"), hang=2)

    def _others(self) -> Iterator[Widget]:
        for digit, one in enumerate(self.others, 1):
            yield Prose((f"{digit}. ", "bold"), line(one, self.others[0]), hang=3)

    async def action_take(self, digit: int) -> None:
        """Show another plan instead."""
        if digit <= len(self.others):
            self.proposal = proposal(self.others[digit - 1])
            await self.speak()

    def action_on(self) -> None:
        """Write it down."""
        self.dismiss(self.proposal)


def _short(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        value = ", ".join(map(str, value)) or "[]"
    words = str(value) or '""'
    return words if len(words) <= SHORT else f"{words[: SHORT - 3]}..."
