"""The advice: what to do, why, how sure we are, and what would change our mind."""

from collections.abc import Iterable, Iterator
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget

from advisor.decide.advice import Advice, Band, Filled, Flip, Step
from advisor.decide.answers import FACTS, Answers
from advisor.decide.answers import said as written
from advisor.decide.axes import CONTEXT, OBJECTIVE, RUNS, UPDATE
from advisor.decide.leaves import ATTACHMENTS, LEAVES
from advisor.decide.questions import BY_FACT
from advisor.decide.walk import NODES
from advisor.show.advice import credited, origin
from advisor.text import N_, t
from advisor.tui.screens.page import Page
from advisor.tui.widgets.panel import Panel
from advisor.tui.widgets.prose import Prose, Styled

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
SOURCE_QUESTIONS = {
    "Q1": N_("Is knowledge missing?"),
    "Q2": N_("Does the knowledge change often?"),
    "Q3": N_("Is there a huge body of it?"),
    "Q4": N_("Is the style or form missing?"),
    "Q5": N_("Can a better prompt fix it?"),
}
"""The five nodes of the source tree, whose own labels stay as they were drawn."""
LEADS_TO = " -> "
SHOWN_FLIPS = 5
"""The changes nearest to the answers come first; more than these distract."""


class AdviceScreen(Page[bool]):
    """Show an advice; True goes on (to the plan, or, where nothing is trained here, to the end)."""

    GUIDE = N_(
        "What to do and why, how sure that is, and what would change it. Scroll for the facts behind it and for what was struck out."
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "on", N_("Go on"), id="on")]

    def __init__(self, advice: Advice, answers: Answers, *, trains: bool) -> None:
        """Show `advice` beside the answers that it rests on."""
        super().__init__()
        self.advice, self.answers, self.trains = advice, answers, trains

    def title_text(self) -> str:
        """Name the step."""
        return t(N_("Advice"))

    def body(self) -> Iterator[Widget]:
        """Yield what to do at the left, what could change it at the right (below, where it is narrow)."""
        with VerticalScroll(id="columns"):
            with Vertical(classes="column"):
                yield Panel(t(N_("Our advice")), self._verdict())
                yield from _panel(N_("Four choices behind it"), self._axes())
                yield from _panel(N_("Step by step"), self._stages())
                yield from _panel(N_("Why: the way through the tree"), self._way())
            with Vertical(classes="column"):
                yield from _panel(N_("What would change our mind"), self._flips())
                yield from _panel(N_("Worth finding out next"), self._asks())
                yield from _panel(N_("What it rests on, and where each fact is from"), self._facts())
                yield from _panel(N_("Take care"), self._warnings())
                yield from _panel(N_("Also possible"), self._alternatives())
                yield from _panel(N_("Struck out"), self._excluded())

    def on_mount(self) -> None:
        """Let the arrow keys scroll."""
        self.query_one("#columns").focus()

    def _verdict(self) -> Iterator[Widget]:
        advice = self.advice
        mark, word, style = BANDS[advice.confidence.band]
        yield Prose((_leaf(advice.primary), "bold $text-accent"), f"  [{advice.primary}]", id="primary")
        why = next(stage.why for stage in advice.plan if stage.role == "primary")
        if why != LEAVES[advice.primary].means:
            yield Prose(said(why))
        yield Prose((f"{mark} ", style), t(N_("Confidence: ")), (t(word), style), *self._caps())
        yield from self._second_opinion()
        if advice.open:
            yield Prose(
                t(
                    N_(
                        "Still open: this is only the cheapest first step; the questions below would settle it."
                    )
                )
            )
        if not self.trains:
            yield Prose((t(N_("Nothing is trained here now.")), "bold"))
            yield Prose(t(COME_BACK))
        yield Prose((t(N_("Stop rule: ")), "bold"), said(advice.stop_rule))

    def _caps(self) -> Iterator[str]:
        if caps := self.advice.confidence.caps:
            yield t(N_(" (held down by: {reasons})"), reasons="; ".join(map(said, caps)))

    def _second_opinion(self) -> Iterator[Widget]:
        if other := self.advice.contested:
            words = N_("A second opinion, which only adds up the evidence, prefers: {means}")
            scores = t(N_("{score:.1f} against {ours:.1f}"), score=other.score, ours=other.ours)
            yield Prose(
                ("! ", "$text-warning"), t(words, means=_leaf(other.leaf)), (f"  {scores}", "dim"), hang=2
            )

    def _axes(self) -> Iterator[Widget]:
        axes = self.advice.axes
        rows = (
            (N_("in the context: "), CONTEXT[axes.context]),
            (N_("what is learned: "), OBJECTIVE[axes.objective]),
            (N_("what moves: "), UPDATE[axes.update]),
            (N_("where it runs: "), RUNS[axes.runs]),
        )
        yield from (Prose((t(name), "bold"), t(choice), hang=2) for name, choice in rows)

    def _facts(self) -> Iterator[Widget]:
        """The facts by where they are from, and last what the way took for granted."""
        known = self.answers.known()
        for source in dict.fromkeys(origin(self.answers, name) for name in known):
            yield Prose((source + t(N_(": ")), "bold"))
            for name in known:
                if origin(self.answers, name) == source:
                    value = (_value(name, written(known[name])), "bold")
                    yield Prose("- ", t(FACTS[name].means), t(N_(": ")), value, hang=2)
        if assumed := [step for step in self.advice.path if step.assumed and _is_told(step)]:
            yield Prose((t(N_("assumed, because nobody said")) + t(N_(": ")), "bold"))
            yield from (Prose("- ", _question(step), hang=2) for step in assumed)

    def _stages(self) -> Iterator[Widget]:
        for stage in self.advice.plan:
            yield Prose(
                (f"{stage.stage}. {_leaf(stage.leaf)}", "bold"), (f"  {t(ROLES[stage.role])}", "dim"), hang=3
            )
            yield from (Prose(f"   - {t(ATTACHMENTS[code])}", hang=5) for code in stage.attachments)

    def _way(self) -> Iterator[Widget]:
        for step in self.advice.path:
            if _is_told(step):
                yield Prose(*_step(step), hang=2)

    def _flips(self) -> Iterator[Widget]:
        for flip in self.advice.flips[:SHOWN_FLIPS]:
            yield Prose(*_change(flip), LEADS_TO, (_leaf(flip.primary), "bold"), hang=2)
        for first, second in self.advice.flip_pairs:
            yield Prose(
                (t(N_("only together: ")), "dim"), *_change(first), t(N_("; ")), *_change(second),
                LEADS_TO, (_leaf(first.primary), "bold"), hang=2,
            )  # fmt: skip
        yield Prose((t(N_("Cheapest test: ")), "bold"), said(self.advice.cheapest_test), hang=2)

    def _asks(self) -> Iterator[Widget]:
        for ask in self.advice.ask_next:
            cost = t(N_("about {minutes} min"), minutes=ask.minutes)
            yield Prose("? ", said(ask.question), (f"  {cost}", "dim"), hang=2)

    def _warnings(self) -> Iterator[Widget]:
        yield from (Prose(("! ", "$text-warning"), said(one.message), hang=2) for one in self.advice.warnings)

    def _alternatives(self) -> Iterator[Widget]:
        yield from (Prose("- ", said(other.why), hang=2) for other in self.advice.alternatives)

    def _excluded(self) -> Iterator[Widget]:
        for struck in self.advice.excluded:
            back = t(N_("possible again: {change}"), change=said(struck.relax)) if struck.relax else ""
            yield Prose(
                ("✗ ", "$text-error"),
                (_leaf(struck.leaf), "bold"),
                f"  {said(struck.reason)}",
                (f"\n{back}" if back else "", "dim"),
                hang=2,
            )

    def action_on(self) -> None:
        """Go on."""
        self.dismiss(True)


def said(sentence: str) -> str:
    """A sentence of the advice in the reader's language, with its places filled."""
    if isinstance(sentence, Filled):
        return t(sentence.template, **{name: _word(value) for name, value in sentence.values.items()})
    return t(sentence)


def _word(value: str | float) -> str | float:
    """A value in a sentence: facts by what they mean, words in the reader's language, numbers as they are."""
    if not isinstance(value, str):
        return value
    return t(FACTS[value].means if value in FACTS else value)


def _leaf(name: str) -> str:
    return t(LEAVES[name].means)


def _change(flip: Flip) -> Iterator[Styled]:
    yield t(FACTS[flip.fact].means) + t(N_(": "))
    bound = {">": N_("at least {value}"), "<": N_("at most {value}")}.get(flip.change[:1])
    told = t(bound, value=flip.change.split()[-1]) if bound else _value(flip.fact, flip.change)
    yield (told, "bold")


def _value(fact: str, value: str) -> str:
    """Yes, no and the answers of a question in the reader's language; other values as one would type them."""
    words = {"yes": N_("Yes"), "no": N_("No")}
    if FACTS[fact].kind == "choice" and fact in BY_FACT:
        words = {str(choice.value): choice.label for choice in BY_FACT[fact].choices}
    return t(words[value]) if value in words else value


def _is_told(step: Step) -> bool:
    """Whether a step is worth a line: those of the source tree, and those that somebody measured."""
    return step.origin == "seed001" or step.grade is not None


def _question(step: Step) -> str:
    """A question of the way, with its answer where it is one of yes and no."""
    label = t(SOURCE_QUESTIONS.get(step.start) or NODES[step.start].label)
    answer = t(step.answer) if step.start in SOURCE_QUESTIONS else ""
    return f"{label} {answer}".rstrip()


def _step(step: Step) -> Iterator[tuple[str, str]]:
    yield ("? " if step.assumed else "✓ ", "$text-warning" if step.assumed else "$text-success")
    yield (_question(step) + "  ", "bold")
    yield (said(step.why), "")
    if step.grade:
        yield (
            "  " + t(N_("[evidence {grade}: {source}]"), grade=step.grade, source=credited(step.source)),
            "dim",
        )
    if step.assumed:
        yield ("  " + t(N_("(assumed: not answered)")), "$text-warning")


def _panel(heading: str, lines: Iterable[Widget]) -> Iterator[Widget]:
    """A panel, or nothing where there is nothing to say."""
    if shown := list(lines):
        yield Panel(t(heading), shown)
