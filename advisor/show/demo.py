"""What the demo says: each step of the line in a sentence or two, from the values of that step."""

from collections.abc import Iterator, Mapping
from typing import Final

from rich.cells import cell_len

from advisor import units
from advisor.catalog.gpus import Hardware
from advisor.decide.advice import Advice
from advisor.decide.leaves import LEAVES
from advisor.learn.lantern.files import SHOTS
from advisor.learn.lantern.tasks import Task
from advisor.plan.proposal import Proposal
from advisor.show.advice import BANDS, say
from advisor.show.prose import wrapped
from advisor.show.report import ARMS
from advisor.text import N_, inert, t
from recipes.report import Arm, Report

SHOWN_CHARACTERS: Final = 60
"""Of an answer, so that the line stays on a terminal."""
TOLD_REASONS: Final = ("adaptation.kind", "schedule.epochs", "schedule.learning_rate")
"""The fields whose reasons are read out; the recipe has one for each."""


def opening(task: Task) -> Iterator[str]:
    """Say whose problem it is."""
    title = t(N_("Lantern Bay: {title}"), title=t(task.title))
    yield from (title, "=" * cell_len(title), *wrapped(t(task.problem)))


def measuring(task: Task, rows: int) -> Iterator[str]:
    """Say what is measured."""
    yield from _heading(1, t(N_("Measure before you train")))
    yield from _lines(
        N_(
            "The base model answers {rows} questions that nobody will train on: as it is, with the best "
            "instruction, and with {shots} examples in the prompt."
        ),
        rows=min(rows, len(task.held_out)),
        shots=SHOTS,
    )
    if task.held_out[0].context:
        yield from _lines(
            N_("And once with the right note pasted into the prompt: is it knowledge that is missing?")
        )


def known(measured: Mapping[str, object], declared: Mapping[str, object]) -> Iterator[str]:
    """Say which facts the decision gets, and where they come from."""
    yield from _heading(2, t(N_("Facts for the decision")))
    yield from _lines(N_("Measured and counted: {facts}."), facts=_facts(measured))
    yield from _lines(N_("Said, because no measurement can tell: {facts}."), facts=_facts(declared))


def advised(advice: Advice) -> Iterator[str]:
    """Say the advice, and the way through the graph that led to it."""
    yield from _heading(3, t(N_("The advice")))
    for step in advice.path:
        yield from wrapped(f"{step.start} -{t(step.answer)}-> {step.end}: {say(step.why)}", indent=2, hang=2)
    means = t(LEAVES[advice.primary].means)
    yield from _lines(N_("Advice: {means} [{leaf}]"), means=means, leaf=advice.primary)
    yield from wrapped(f"{t(N_('Confidence'))}: {t(BANDS[advice.confidence.band])}")
    yield from _lines(N_("The source tree alone says: {answer}"), answer=advice.classic_leaf or "-")


def not_trained(advice: Advice, measured: Report) -> Iterator[str]:
    """Say what to do instead of training, and what was measured of it."""
    yield t(N_("So nothing is trained here, and that is the result:"))
    for stage in advice.plan:
        yield from wrapped(f"{stage.stage}. {stage.leaf}: {say(stage.why)}", indent=2, hang=3)
    base, score = measured.arms[0], measured.primary
    best = _best(measured, score)
    if best is base:
        yield from _lines(
            N_("Measured: {score} {best} at best, whatever the prompt said."),
            score=inert(score),
            best=_score(base, score),
        )
        score = max(base.scores, key=lambda name: _gain(_best(measured, name), base, name))
        best = _best(measured, score)
    if best is not base:
        yield from _lines(
            N_("Measured: {score} {before} as it is, {after} with {what}."),
            score=inert(score),
            before=_score(base, score),
            after=_score(best, score),
            what=t(HELPS[best.name]),
        )


def _best(measured: Report, score: str) -> Arm:
    """The arm with the highest score; of equals the simplest."""
    return max(measured.arms, key=lambda arm: arm.scores[score].value)


def _gain(arm: Arm, base: Arm, score: str) -> float:
    return arm.scores[score].value - base.scores[score].value


HELPS: Final[Mapping[str, str]] = {
    "prompt": N_("a good instruction"),
    "few_shot": N_("examples in the prompt"),
    "context": N_("the right note in the prompt"),
}


def planned(proposal: Proposal, hardware: Hardware, recipe: str) -> Iterator[str]:
    """Say what will be done, what it will cost, and where it stands."""
    yield from _heading(4, t(N_("A plan for this computer")))
    yield from _lines(
        N_("Hardware: {name}, {free} free. Predicted: {peak} at the peak{time}."),
        name=inert(hardware.name),
        free=units.gib(hardware.usable_bytes),
        peak=units.gib(proposal.estimate.allocated),
        time=t(
            N_(", {low} to {high} of training"),
            low=units.seconds(proposal.seconds.low),
            high=units.seconds(proposal.seconds.high),
        )
        if proposal.seconds
        else "",
    )
    for key in TOLD_REASONS:
        if reason := proposal.why.get(key):
            told = f"{key} = {_value(proposal, key)}: {t(reason.text, **reason.values)}"
            yield from wrapped(inert(told), indent=2, hang=2)
    for reason in proposal.concessions:
        yield from wrapped(inert(t(reason.text, **reason.values)), indent=2, hang=2)
    yield from _lines(N_("Every value stands with its reason in {recipe}."), recipe=inert(recipe))


def training() -> Iterator[str]:
    """Say what happens now."""
    yield from _heading(5, t(N_("Train")))
    yield from _lines(
        N_("A process of its own trains from the recipe alone; this program only reads what it writes down.")
    )


def reporting() -> Iterator[str]:
    """Say what comes now."""
    yield from _heading(6, t(N_("Did it help?")))


def side_by_side(report: Report) -> Iterator[str]:
    """Show one question with the answer of every arm."""
    samples = [(arm, arm.samples[0]) for arm in report.arms if arm.samples]
    if not samples:
        return
    yield from _lines(N_("One of the questions: {question}"), question=_short(samples[0][1].prompt))
    yield from (f"  {t(ARMS[arm.name]):<10}{_short(sample.got)}" for arm, sample in samples)


def glance_heading() -> str:
    """Introduce the other tasks."""
    return "\n" + t(N_("The same graph, other numbers:"))


def glance(task: Task, measured: Report, advice: Advice) -> Iterator[str]:
    """Say one task in one line: what was measured, and what follows from it."""
    scores = ", ".join(f"{t(ARMS[arm.name])} {_score(arm, measured.primary)}" for arm in measured.arms)
    means = t(LEAVES[advice.primary].means)
    yield from wrapped(f"{task.name}: {scores} -> {advice.primary}: {means}", indent=2, hang=2)


def _lines(message: str, **values: object) -> Iterator[str]:
    yield from wrapped(t(message, **values))


def _heading(number: int, title: str) -> Iterator[str]:
    yield from ("", f"{number}. {title}")


def _facts(facts: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={_said(value)}" for name, value in facts.items()) or "-"


def _said(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _value(proposal: Proposal, key: str) -> str:
    part: object = proposal.plan
    for name in key.split("."):
        part = getattr(part, name)
    return _said(part)


def _score(arm: Arm, name: str) -> str:
    return units.percent(arm.scores[name].value)


def _short(text: str) -> str:
    plain = inert(" ".join(text.split()))
    return plain if len(plain) <= SHOWN_CHARACTERS else plain[: SHOWN_CHARACTERS - 3] + "..."
