"""The decision record: one advice as Markdown that a team can print or attach to a ticket."""

from collections.abc import Iterable, Iterator
from typing import Final

from advisor.decide.advice import Advice, Flip, Step
from advisor.decide.answers import FACTS, Answers, Value, said
from advisor.decide.leaves import ATTACHMENTS, LEAVES
from advisor.show.advice import BANDS, LABELS, ORIGINS, ROLES, credited, disputed, on_axes, origin, say
from advisor.text import N_, inert, t
from recipes.write import code, plain

DIAGNOSTIC: Final = (
    "task_type", "prompt_success", "target_success", "lacks_knowledge", "lacks_style_format", "lacks_skill",
    "optimise_cost_latency", "needs_safety_alignment", "cost_of_failure", "human_fallback",
)  # fmt: skip
"""The facts that say what the problem is; the others say under which conditions it is to be solved."""


def markdown(advice: Advice, answers: Answers, *, date: str, version: str) -> str:
    """The record in the reader's language.

    Args:
        advice: The advice.
        answers: What it rests on.
        date: The day it was given, YYYY-MM-DD: nothing below the commands reads the clock.
        version: The version of this program.
    """
    parts = (
        _head(advice, date, version),
        _section(N_("Problem"), _problem(answers)),
        _section(N_("Facts"), _facts(answers)),
        _section(N_("Advice"), _advice(advice)),
        _section(N_("Why"), map(_step, advice.path)),
        _section(N_("Plan"), _plan(advice)),
        _section(N_("Doubt"), _doubt(advice)),
        _section(N_("Warnings"), (f"- {plain(t(warned.message))}" for warned in advice.warnings)),
        _section(N_("What would change it"), _flips(advice)),
        _section(N_("Alternatives"), (f"- {code(a.leaf)}: {plain(say(a.why))}" for a in advice.alternatives)),
        _section(N_("Struck out"), _excluded(advice)),
        _section(N_("Find out next"), _asks(advice)),
        _section(N_("Stop rule"), (plain(say(advice.stop_rule)),)),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def _head(advice: Advice, date: str, version: str) -> Iterator[str]:
    title = t(N_("Decision record: {means}"), means=t(LEAVES[advice.primary].means))
    yield f"# {plain(title)}"
    yield ""
    yield plain(t(N_("{date}, finetune-advisor {version}"), date=date, version=version))


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    """A section, or nothing where it would be empty."""
    body = list(lines)
    if body:
        yield from ("", f"## {t(title)}", "", *body)


def _problem(answers: Answers) -> Iterator[str]:
    known = answers.known()
    told = [name for name in DIAGNOSTIC if name in known]
    for name in told:
        yield f"- {plain(t(FACTS[name].means))}: {_value(known[name])}"
    if not told:
        yield plain(
            t(N_("Nothing is said yet about what is wrong; the advice is only the cheapest first step."))
        )


def _facts(answers: Answers) -> Iterator[str]:
    for name, value in answers.known().items():
        yield f"- {code(name)} = {_value(value)} ({plain(origin(answers, name))})"


def _value(value: Value) -> str:
    return code(inert(said(value)))


def _advice(advice: Advice) -> Iterator[str]:
    yield f"**{plain(t(LEAVES[advice.primary].means))}** ({code(advice.primary)})"
    yield ""
    yield plain(say(next(stage.why for stage in advice.plan if stage.role == "primary")))
    if advice.open:
        yield ""
        yield plain(t(N_("The decision is still open: nothing is diagnosed yet.")))
    yield ""
    tree = (
        LABELS[advice.classic_leaf]
        if advice.classic_leaf
        else N_("nothing: its questions are not all answered")
    )
    yield plain(t(N_("The source tree alone says: {answer}"), answer=t(tree)))


def _step(step: Step) -> str:
    answer = f" ({plain(t(step.answer))})" if step.answer else ""
    graded = t(N_(", evidence {grade}"), grade=step.grade) if step.grade else ""
    mark = plain(t(N_(" (assumed)"))) if step.assumed else ""
    way = f"{code(step.start)}{answer} → {code(step.end)}{mark}"
    return f"- {way}: {plain(say(step.why))} *{plain(t(ORIGINS[step.origin]) + t(N_('; ')) + credited(step.source) + graded)}*"


def _plan(advice: Advice) -> Iterator[str]:
    yield plain(on_axes(advice.axes))
    yield ""
    for stage in advice.plan:
        yield f"{stage.stage}. {code(stage.leaf)} ({plain(t(ROLES[stage.role]))}): {plain(say(stage.why))}"
        yield from (f"   - [ ] {plain(t(ATTACHMENTS[one]))}" for one in stage.attachments)


def _doubt(advice: Advice) -> Iterator[str]:
    sure = advice.confidence
    yield plain(t(N_("{value:.2f}, {band}"), value=sure.value, band=t(BANDS[sure.band])))
    yield ""
    yield plain(
        t(
            N_("robustness {R:.2f} (over what is unknown), evidence {E:.2f}, agreement {G:.2f}"),
            R=sure.R,
            E=sure.E,
            G=sure.G,
        )
    )
    if sure.caps or advice.contested:
        yield ""
    if advice.contested:
        yield f"- {plain(disputed(advice))}"
    yield from (f"- {plain(say(cap))}" for cap in sure.caps)


def _flips(advice: Advice) -> Iterator[str]:
    for flip in advice.flips:
        yield f"- {_change(flip)} → {code(flip.primary)}: {plain(say(flip.experiment))}"
    for first, second in advice.flip_pairs:
        together = plain(t(N_("only together")))
        learn = plain(f"{say(first.experiment)} {say(second.experiment)}")
        yield f"- {together}: {_change(first)}, {_change(second)} → {code(first.primary)}: {learn}"


def _change(flip: Flip) -> str:
    change = flip.change if flip.change[:1] in "<>" else f"= {flip.change}"
    return code(f"{flip.fact} {change}")


def _excluded(advice: Advice) -> Iterator[str]:
    for one in advice.excluded:
        line = t(
            N_("{reason}. It would come back with: {relax}."), reason=say(one.reason), relax=say(one.relax)
        )
        yield f"- {code(one.leaf)}: {plain(line)}"


def _asks(advice: Advice) -> Iterator[str]:
    for number, ask in enumerate(advice.ask_next, start=1):
        minutes = t(N_("about {minutes} min"), minutes=ask.minutes)
        yield f"{number}. {plain(say(ask.question))} ({code(ask.fact)}, {plain(minutes)})"
    if advice.ask_next:
        yield ""
    yield plain(t(N_("Cheapest test: {test}"), test=say(advice.cheapest_test)))
