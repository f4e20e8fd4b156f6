"""The advice as text for 80 columns, and as the data of `advisor recommend --json`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from advisor.decide.advice import Advice, Axes, Band, Excluded, Filled, Flip, FlipPair, Step
from advisor.decide.answers import FACTS, Answers, Fact, Origin, said
from advisor.decide.asking import wording
from advisor.decide.axes import CONTEXT, OBJECTIVE, RUNS, UPDATE
from advisor.decide.extension import CREDITS
from advisor.decide.flips import experiment
from advisor.decide.groups import GROUPS
from advisor.decide.leaves import ATTACHMENTS, LEAVES
from advisor.decide.questions import BY_FACT
from advisor.decide.tree import NODES as TREE
from advisor.plan.fits import FitRow
from advisor.show.columns import columns
from advisor.show.prose import wrapped
from advisor.text import N_, inert, t
from advisor.units import count, gib

INDENT: Final = 2
SHOWN_FLIPS: Final = 4
BANDS: Final[Mapping[Band, str]] = {
    "high": N_("high: little that is unknown could change this"),
    "medium": N_("medium: something unknown or contested could still change this"),
    "low": N_("low: this is the best first step, not the last word"),
}
ROLES: Final = {"baseline": N_("baseline"), "primary": N_("the advice"), "companion": N_("beside it")}
FROM: Final[Mapping[Origin, str]] = {
    "person": N_("said"),
    "flag": N_("said, on the command line"),
    "file": N_("said, in a file"),
    "hardware": N_("read from the catalogue"),
    "detected": N_("detected on this computer"),
    "data": N_("counted in the data"),
    "report": N_("measured"),
}
"""Where a fact came from."""
ORIGINS: Final = {"seed001": N_("the source tree"), "extension": N_("our extension")}
VERDICTS: Final = {
    "fits": N_("fits"), "likely": N_("likely"), "unlikely": N_("unlikely"), "does_not_fit": N_("no"),
}  # fmt: skip
LABELS: Final = {node.name: node.label for node in TREE}


def say(sentence: str) -> str:
    """One sentence of the advice in the reader's language; text from answers is made harmless."""
    if isinstance(sentence, Filled):
        values = {name: _word(value) for name, value in sentence.values.items()}
        return inert(t(sentence.template, **values))
    return inert(t(sentence))


def credited(source: str) -> str:
    """Who says so: words of ours in the reader's language, names of papers as they are."""
    parts = source.split("; ")
    return t(N_("; ")).join(t(part) if part in CREDITS else inert(part) for part in parts)


def _word(value: str | float) -> str | float:
    """A value may itself be a marked sentence."""
    return t(value) if isinstance(value, str) and value else value


def text(advice: Advice) -> str:
    """The advice first, then why, doubt, what would change it and what to ask next."""
    return "\n".join(
        (
            *_headline(advice),
            *_stages(advice),
            *_doubt(advice),
            *_warnings(advice),
            *_flips(advice.flips[:SHOWN_FLIPS], advice.flip_pairs),
            *_asks(advice),
            *_rules(advice),
        )
    )


def explain(advice: Advice, answers: Answers) -> str:
    """Everything: the facts with their origins, the way with its sources, struck-out leaves, all flips."""
    return "\n".join(
        (
            *_headline(advice),
            *_facts(answers),
            *_path(advice.path),
            *_stages(advice, attachments=True),
            *_doubt(advice),
            *_warnings(advice),
            *_alternatives(advice),
            *_excluded(advice.excluded),
            *_flips(advice.flips, advice.flip_pairs),
            *_asks(advice),
            *_rules(advice),
        )
    )


def one_line(name: str, advice: Advice) -> str:
    """The advice of one file among many."""
    return t(
        N_("{name}: {leaf} (confidence {band})"),
        name=inert(name),
        leaf=advice.primary,
        band=advice.confidence.band,
    )


def fits(rows: Sequence[FitRow], usable_bytes: int, seq_tokens: int) -> str:
    """What fits on the card: the largest model for each method, then well-known models with all methods."""
    head = t(
        N_(
            "What {usable} of usable memory can train, one row of {length} tokens at a time. The largest by method:"
        ),
        usable=gib(usable_bytes),
        length=seq_tokens,
    )
    best = [(row.method, row.model, count(row.parameters), gib(row.needs_bytes))
            for row in rows if row.largest]  # fmt: skip
    return "\n".join((*wrapped(head), *("  " + line for line in columns(best)), "", *_matrix(rows)))


def _matrix(rows: Sequence[FitRow]) -> Iterator[str]:
    known = [row for row in rows if not row.largest]
    methods = tuple(dict.fromkeys(row.method for row in known))
    verdicts = {(row.model, row.method): row for row in known}
    names = tuple(dict.fromkeys(row.model for row in known))
    table = [(t(N_("model")), *methods)]
    table += [(name, *(_cell(verdicts.get((name, method))) for method in methods)) for name in names]
    yield from ("  " + line for line in columns(table))


def _cell(row: FitRow | None) -> str:
    if row is None:
        return "-"
    return gib(row.needs_bytes) if row.verdict == "fits" else t(VERDICTS[row.verdict])


def _headline(advice: Advice) -> Iterator[str]:
    leaf = LEAVES[advice.primary]
    yield from wrapped(t(N_("Advice: {means} [{leaf}]"), means=t(leaf.means), leaf=leaf.name), hang=2)
    if advice.open:
        yield from wrapped(
            t(
                N_(
                    "The decision is still open: nothing is diagnosed yet, so this is only the cheapest first step."
                )
            )
        )
    yield from wrapped(t(N_("Why: {why}"), why=_reason(advice)), hang=2)
    classic = advice.classic_leaf
    answer = (
        LABELS[classic]
        if classic
        else t(N_("nothing: its questions are not all answered, or it has no edge there"))
    )
    yield from wrapped(t(N_("The source tree alone says: {answer}"), answer=t(answer)), hang=2)


def on_axes(axes: Axes) -> str:
    """The four choices as one sentence."""
    return t(
        N_("In the context: {context}. Learned: {objective}. Moved: {update}. Run: {runs}."),
        context=t(CONTEXT[axes.context]),
        objective=t(OBJECTIVE[axes.objective]),
        update=t(UPDATE[axes.update]),
        runs=t(RUNS[axes.runs]),
    )


def disputed(advice: Advice) -> str:
    """What the second opinion prefers, or nothing where it does not disagree."""
    if advice.contested is None:
        return ""
    return t(
        N_("Contested: the evidence score prefers {leaf} ({score:.1f} against {ours:.1f})."),
        leaf=advice.contested.leaf,
        score=advice.contested.score,
        ours=advice.contested.ours,
    )


def _reason(advice: Advice) -> str:
    return say(next(stage.why for stage in advice.plan if stage.role == "primary"))


def _stages(advice: Advice, *, attachments: bool = False) -> Iterator[str]:
    yield from _title(t(N_("Plan")))
    yield from wrapped(on_axes(advice.axes), indent=INDENT)
    for stage in advice.plan:
        head = t(N_("{number}. {leaf} ({role}): {why}"), number=stage.stage, leaf=stage.leaf,
                 role=t(ROLES[stage.role]), why=say(stage.why))  # fmt: skip
        yield from wrapped(head, indent=INDENT, hang=3)
        if attachments:
            for code in stage.attachments:
                yield from wrapped("- " + t(ATTACHMENTS[code]), indent=INDENT + 3, hang=2)


def _doubt(advice: Advice) -> Iterator[str]:
    sure = advice.confidence
    yield from _title(t(N_("Confidence")))
    yield from wrapped(
        t(N_("{value:.2f}, {band}"), value=sure.value, band=t(BANDS[sure.band])), indent=INDENT, hang=2
    )
    yield from wrapped(
        t(
            N_("robustness {R:.2f} (over what is unknown), evidence {E:.2f}, agreement {G:.2f}"),
            R=sure.R,
            E=sure.E,
            G=sure.G,
        ),
        indent=INDENT,
        hang=2,
    )
    if advice.contested:
        yield from wrapped("- " + disputed(advice), indent=INDENT, hang=2)
    for cap in sure.caps:
        yield from wrapped("- " + say(cap), indent=INDENT, hang=2)


def _warnings(advice: Advice) -> Iterator[str]:
    if advice.warnings:
        yield from _title(t(N_("Warnings")))
    for warned in advice.warnings:
        yield from wrapped("! " + t(warned.message), indent=INDENT, hang=2)


def _flips(flips: Sequence[Flip], pairs: Sequence[FlipPair]) -> Iterator[str]:
    if flips or pairs:
        yield from _title(t(N_("What would change it")))
    for flip in flips:
        head = t(
            N_("{fact} {change}: {leaf}"), fact=flip.fact, change=_change(flip.change), leaf=flip.primary
        )
        yield from wrapped("- " + head, indent=INDENT, hang=2)
        yield from wrapped(say(flip.experiment), indent=INDENT + 2)

    for first, second in pairs:
        head = t(
            N_("only together, {fact} {change} and {other} {altered}: {leaf}"),
            fact=first.fact, change=_change(first.change),
            other=second.fact, altered=_change(second.change), leaf=first.primary,
        )  # fmt: skip
        yield from wrapped("- " + head, indent=INDENT, hang=2)
        yield from wrapped(say(first.experiment), indent=INDENT + 2)
        yield from wrapped(say(second.experiment), indent=INDENT + 2)


def _change(change: str) -> str:
    return change if change[:1] in "<>" else f"= {change}"


def _asks(advice: Advice) -> Iterator[str]:
    if advice.ask_next:
        yield from _title(t(N_("Find out next")))
    for number, ask in enumerate(advice.ask_next, start=1):
        line = t(N_("{number}. {question} (--fact {fact}=..., about {minutes} min)"), number=number,
                 question=say(ask.question), fact=ask.fact, minutes=ask.minutes)  # fmt: skip
        yield from wrapped(line, indent=INDENT, hang=3)


def _rules(advice: Advice) -> Iterator[str]:
    yield ""
    yield from wrapped(t(N_("Cheapest test: {test}"), test=say(advice.cheapest_test)), hang=2)
    yield from wrapped(t(N_("Stop rule: {rule}"), rule=say(advice.stop_rule)), hang=2)


def _facts(answers: Answers) -> Iterator[str]:
    known = answers.known()
    if known:
        yield from _title(t(N_("Facts")))
    rows = [(name, said(value), origin(answers, name)) for name, value in known.items()]
    yield from ("  " + line for line in (columns(rows) if rows else ()))


def origin(answers: Answers, fact: str) -> str:
    """Where a known fact came from, in the reader's language."""
    return t(FROM[answers.origins.get(fact, "person")])


def _path(path: Sequence[Step]) -> Iterator[str]:
    yield from _title(t(N_("The way")))
    for step in path:
        mark = t(N_(" (assumed)")) if step.assumed else ""
        graded = t(N_(", evidence {grade}"), grade=step.grade) if step.grade else ""
        answer = f" -{t(step.answer)}-> " if step.answer else " -> "
        yield from wrapped(f"{step.edge}: {step.start}{answer}{step.end}{mark}", indent=INDENT, hang=2)
        who = t(
            N_("[{origin}; {source}{graded}]"),
            origin=t(ORIGINS[step.origin]),
            source=credited(step.source),
            graded=graded,
        )
        yield from wrapped(f"{say(step.why)} {who}", indent=INDENT + 4)


def _alternatives(advice: Advice) -> Iterator[str]:
    if advice.alternatives:
        yield from _title(t(N_("Also possible")))
    for other in advice.alternatives:
        yield from wrapped(f"- {other.leaf}: {say(other.why)}", indent=INDENT, hang=2)


def _excluded(excluded: Sequence[Excluded]) -> Iterator[str]:
    if excluded:
        yield from _title(t(N_("Struck out")))
    for one in excluded:
        line = t(N_("{leaf}: {reason}. It would come back with: {relax}."), leaf=one.leaf, reason=say(one.reason),
                 relax=say(one.relax))  # fmt: skip
        yield from wrapped("- " + line, indent=INDENT, hang=2)


def _title(words: str) -> Iterator[str]:
    yield ""
    yield words


def data(advice: Advice, answers: Answers) -> dict[str, object]:
    """The advice as JSON: the fields of `advisor recommend --json`."""
    sure = advice.confidence
    return {
        "classic_leaf": advice.classic_leaf,
        "primary": advice.primary,
        "open": advice.open,
        "plan": [
            {"stage": s.stage, "leaf": s.leaf, "role": s.role, "why": str(s.why), "attachments": list(s.attachments)}
            for s in advice.plan
        ],
        "alternatives": [{"leaf": a.leaf, "score": a.score, "why": str(a.why)} for a in advice.alternatives],
        "excluded": [{"leaf": e.leaf, "reason": str(e.reason), "relax": str(e.relax)} for e in advice.excluded],
        "axes": asdict(advice.axes),
        "contested": asdict(advice.contested) if advice.contested else None,
        "confidence": {
            "band": sure.band, "value": sure.value, "R": sure.R, "E": sure.E, "G": sure.G, "caps": list(map(str, sure.caps)),
        },
        "flips": [_flip(flip) for flip in advice.flips],
        "flip_pairs": [[_flip(first), _flip(second)] for first, second in advice.flip_pairs],
        "ask_next": [
            {"fact": a.fact, "question": FACTS[a.fact].group, "text": str(a.question), "minutes": a.minutes}
            for a in advice.ask_next
        ],
        "warnings": [{"code": w.code, "message": w.message, "edge": w.edge} for w in advice.warnings],
        "path": [_step(step) for step in advice.path],
        "cheapest_test": str(advice.cheapest_test),
        "stop_rule": str(advice.stop_rule),
        "facts": {
            name: {"value": value, "origin": answers.origins.get(name, "person")}
            for name, value in answers.known().items()
        },
    }  # fmt: skip


def _flip(flip: Flip) -> dict[str, str]:
    return {
        "fact": flip.fact, "change": flip.change, "primary": flip.primary, "experiment": str(flip.experiment),
    }  # fmt: skip


def word(fact: Fact) -> dict[str, object]:
    """One fact of the vocabulary as JSON, with its question, the reason for it and how to find the answer."""
    group, own = GROUPS[fact.group], BY_FACT.get(fact.name)
    return {
        "name": fact.name, "kind": fact.kind, "allowed": fact.allowed, "question": fact.group, "minutes": fact.minutes,
        "means": fact.means,
        "text": wording(fact.name),
        "why": own.why if own else group.why,
        "analogy": own.analogy if own else group.analogy,
        "measure": experiment(fact.name),
        "prior": [{"value": value, "weight": weight} for value, weight in fact.prior],
    }  # fmt: skip


def _step(step: Step) -> dict[str, object]:
    return {
        "edge": step.edge, "from": step.start, "answer": step.answer, "to": step.end, "origin": step.origin,
        "grade": step.grade, "assumed": step.assumed, "why": str(step.why), "source": step.source,
    }  # fmt: skip
