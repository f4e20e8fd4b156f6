"""How sure the advice is: robustness x evidence x agreement, with caps that name what is missing."""

from collections.abc import Iterator, Mapping
from typing import Final

from advisor.decide import predicates as p
from advisor.decide.advice import Band, Confidence, Filled
from advisor.decide.answers import Answers
from advisor.decide.evidence import WORTH, agreement
from advisor.decide.leaves import family
from advisor.decide.walk import Walk
from advisor.decide.worlds import World
from recipes.words import N_

HIGH: Final = 0.75
MEDIUM: Final = 0.5
"""Where the bands begin."""
FLOOR: Final = 0.4
"""What even the weakest evidence leaves of the confidence."""
_ORDER: Final[Mapping[Band, int]] = {"low": 0, "medium": 1, "high": 2}


def confidence(
    a: Answers, walk: Walk, leaf: str, worlds: list[World], score: Mapping[str, float]
) -> Confidence:
    """Weigh one verdict.

    Args:
        a: The answers.
        walk: The way that was taken.
        leaf: The primary leaf.
        worlds: The possible worlds of the unknown facts.
        score: The evidence score by leaf.
    """
    robust = sum(w.mass for w in worlds if family(w.leaf) == family(leaf)) / sum(w.mass for w in worlds)
    proof = min((WORTH[step.edge.grade] for step in walk.taken if step.edge.grade), default=WORTH["D"])
    agreed = agreement(leaf, score)
    value = robust * (FLOOR + (1 - FLOOR) * proof) * agreed
    caps = tuple(_caps(a, walk))
    band: Band = "high" if value >= HIGH else "medium" if value >= MEDIUM else "low"
    lowest = min([band, *(cap for cap, _ in caps)], key=lambda one: _ORDER[one])
    reasons = tuple(dict.fromkeys(why for _, why in caps))
    return Confidence(lowest, round(value, 3), round(robust, 3), round(proof, 3), round(agreed, 3), reasons)


def _caps(a: Answers, walk: Walk) -> Iterator[tuple[Band, str]]:
    if p.few_test_items(a):
        yield "low", Filled(N_("only {items} test items"), items=a.eval_set_size or 0)
    if p.nothing_diagnosed(a) and not p.prompt_is_enough(a):
        yield "low", N_("nothing is diagnosed yet")
    for step in walk.taken:
        if step.edge.contested:
            yield "medium", Filled(N_("a contested rule decides ({rule})"), rule=step.edge.contested)
    for fact in unknown_decisive(a):
        yield "medium", Filled(N_("not known: {fact}"), fact=fact)


def unknown_decisive(a: Answers) -> Iterator[str]:
    """The facts of the first five questions that could decide and are not known."""
    if a.prompt_success is None and a.prompt_can_fix is None:
        yield "prompt_success"
    if a.eval_set_size is None:
        yield "eval_set_size"
    if p.lacks_knowledge(a) is None:
        yield "lacks_knowledge"
    if a.lacks_style_format is None and not p.lacks_knowledge(a):
        yield "lacks_style_format"
