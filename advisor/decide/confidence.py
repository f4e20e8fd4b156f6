"""How sure the advice is: robustness x evidence x agreement, with caps that name what is missing."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from advisor.decide import predicates as p
from advisor.decide.advice import Band, Confidence, Filled
from advisor.decide.answers import FACTS, Answers, possible
from advisor.decide.beliefs import prior
from advisor.decide.doubts import doubts
from advisor.decide.evidence import WORTH, agreement
from advisor.decide.leaves import family
from advisor.decide.walk import Walk
from advisor.decide.worlds import Nearby, World
from recipes.words import N_

HIGH: Final = 0.75
MEDIUM: Final = 0.5
"""Where the bands begin."""
FLOOR: Final = 0.4
"""What even the weakest evidence leaves of the confidence."""
DIAGNOSIS: Final = frozenset({"F01", "F02", "F03", "F04", "F05"})
"""The questions whose facts can decide alone (decision notes, section 2.2)."""
DECISIVE: Final = 0.1
"""Belief in answers that would change the family, from which an unknown fact is decisive here (docs/adr/0005)."""
_ORDER: Final[Mapping[Band, int]] = {"low": 0, "medium": 1, "high": 2}


def confidence(
    a: Answers,
    walk: Walk,
    leaf: str,
    worlds: Sequence[World],
    score: Mapping[str, float],
    unknown: Sequence[str],
) -> Confidence:
    """Weigh one verdict.

    Args:
        a: The answers.
        walk: The way that was taken.
        leaf: The primary leaf.
        worlds: The possible worlds of the unknown facts.
        score: The evidence score by leaf.
        unknown: The decisive facts that are not known.
    """
    robust = sum(w.mass for w in worlds if family(w.leaf) == family(leaf)) / sum(w.mass for w in worlds)
    proof = min((WORTH[step.edge.grade] for step in walk.taken if step.edge.grade), default=WORTH["D"])
    agreed = agreement(leaf, score)
    value = robust * (FLOOR + (1 - FLOOR) * proof) * agreed
    caps = tuple(_caps(a, walk, leaf, unknown))
    band: Band = "high" if value >= HIGH else "medium" if value >= MEDIUM else "low"
    lowest = min([band, *(cap for cap, _ in caps)], key=lambda one: _ORDER[one])
    reasons = tuple(dict.fromkeys(why for _, why in caps))
    return Confidence(lowest, round(value, 3), round(robust, 3), round(proof, 3), round(agreed, 3), reasons)


def _caps(a: Answers, walk: Walk, leaf: str, unknown: Sequence[str]) -> Iterator[tuple[Band, str]]:
    if p.few_test_items(a):
        yield "low", Filled(N_("only {items} test items"), items=a.eval_set_size or 0)
    if p.nothing_diagnosed(a) and not p.prompt_is_enough(a):
        yield "low", N_("nothing is diagnosed yet")
    for step in walk.taken:
        if step.edge.contested:
            yield "medium", Filled(N_("a contested rule decides ({rule})"), rule=step.edge.contested)
    for says in doubts(a, leaf):
        yield "medium", says
    for fact in unknown:
        yield "medium", Filled(N_("not known: {fact}"), fact=fact)


def unknown_decisive(a: Answers, leaf: str, looked_at: Sequence[str], at: Nearby) -> tuple[str, ...]:
    """The facts of the diagnosis that are not known and could each, alone, change the family of the advice.

    Args:
        a: The answers.
        leaf: The primary leaf.
        looked_at: The facts that the way to it looks at: no other can change it.
        at: Where a change of one fact leads.
    """
    return tuple(
        fact
        for fact in looked_at
        if FACTS[fact].group in DIAGNOSIS and a.get(fact) is None and _turns(a, fact, leaf, at) >= DECISIVE
    )


def _turns(a: Answers, fact: str, leaf: str, at: Nearby) -> float:
    known, home = a.known(), family(leaf)
    return sum(
        weight
        for value, weight in prior(fact, a)
        if possible(known, fact, value) and family(at(fact, value)) != home
    )
