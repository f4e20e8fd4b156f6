"""From answers to advice: walk, strike out, plan, weigh the doubt, say what would change it."""

from typing import Final

from advisor.decide import predicates as p
from advisor.decide import stages
from advisor.decide.advice import Advice, Alternative, Ask, Excluded, Step
from advisor.decide.answers import Answers
from advisor.decide.asking import ask_next
from advisor.decide.axes import axes
from advisor.decide.cautions import Verdict, cautions
from advisor.decide.confidence import confidence, unknown_decisive
from advisor.decide.constraints import excluded, standing, struck
from advisor.decide.evidence import scores, second_opinion
from advisor.decide.flips import experiment, flips
from advisor.decide.leaves import LEAVES
from advisor.decide.offers import offers
from advisor.decide.pairs import flip_pairs
from advisor.decide.tree import Origin
from advisor.decide.walk import Taken, Walk, walk
from advisor.decide.worlds import matters, nearby, read, worlds
from recipes.words import N_

ALTERNATIVES: Final = 4
NO_TEST: Final = N_(
    "Run the plan's baseline on 20 fresh items; if it reaches the target, nothing more is needed."
)

_FACT_OF_NODE: Final = {
    "Q1": "lacks_knowledge",
    "Q2": "knowledge_change",
    "Q3": "corpus",
    "Q4": "lacks_style_format",
    "Q5": "prompt_success",
}
"""Which fact an assumed step of the tree stands for: it heads the list of questions."""


def advise(answers: Answers) -> Advice:
    """Say what to do, why, how sure that is and what would change it. Pure: equal answers give equal advice."""
    way = walk(answers)
    leaf = standing(way.end, answers)
    score = scores(answers)
    looked_at = read(answers)
    could_be = worlds(answers)
    at = nearby(answers)
    unknown = unknown_decisive(answers, leaf, looked_at, at)
    first = (_assumed_facts(way), unknown)
    questions = ask_next(answers, leaf, looked_at, at, first=first, can_matter=matters(could_be))
    single = flips(answers, leaf, looked_at, at)
    planned = stages.plan(answers, leaf, _why(way, leaf))
    inside = frozenset(stage.leaf for stage in planned)
    out = tuple(one for one in excluded(answers) if one.leaf not in inside)
    return Advice(
        classic_leaf=_classic(answers),
        primary=leaf,
        plan=planned,
        alternatives=_alternatives(_offered(answers, leaf), score, inside, out),
        excluded=out,
        axes=axes(answers, leaf, planned),
        contested=second_opinion(leaf, score),
        confidence=confidence(answers, way, leaf, could_be, score, unknown),
        flips=single,
        flip_pairs=flip_pairs(answers, leaf, looked_at, single),
        ask_next=questions,
        warnings=cautions(Verdict(answers, way, leaf, inside)),
        path=_path(way, leaf, answers),
        cheapest_test=_cheapest(questions),
        stop_rule=stages.stop_rule(leaf),
        open=p.nothing_diagnosed(answers) and not p.prompt_is_enough(answers),
    )


def _classic(answers: Answers) -> str | None:
    way = walk(answers, "classic")
    return way.end if way.finished else None


def _why(way: Walk, leaf: str) -> str:
    """The reason of the last step that decided something."""
    if way.end != leaf:
        return LEAVES[leaf].means
    graded = [step.edge.why for step in way.taken if step.edge.grade]
    return graded[-1] if graded else way.taken[-1].edge.why


def _offered(answers: Answers, leaf: str) -> dict[str, str]:
    """What is named beside `leaf` whatever its score, with the reason why it is second."""
    return {offer.leaf: offer.why for offer in offers(answers, leaf)}


def _alternatives(
    offered: dict[str, str], score: dict[str, float], inside: frozenset[str], out: tuple[Excluded, ...]
) -> tuple[Alternative, ...]:
    closed = inside | {one.leaf for one in out}
    good = sorted((leaf for leaf in score if score[leaf] > 0), key=lambda leaf: -score[leaf])
    named = [leaf for leaf in dict.fromkeys((*offered, *good)) if leaf not in closed]
    return tuple(
        Alternative(leaf, round(score[leaf], 2), offered.get(leaf, LEAVES[leaf].means))
        for leaf in named[:ALTERNATIVES]
    )


def _assumed_facts(way: Walk) -> frozenset[str]:
    """The facts that the assumed steps of the tree stand for."""
    return frozenset(
        _FACT_OF_NODE[step.edge.start]
        for step in way.taken
        if step.assumed and step.edge.start in _FACT_OF_NODE
    )


def _path(way: Walk, leaf: str, answers: Answers) -> tuple[Step, ...]:
    steps = tuple(_step(taken) for taken in way.taken)
    if way.end == leaf:
        return steps
    why = struck(way.end, answers)
    said = why[0] if why else LEAVES[leaf].means
    return (
        *steps,
        Step("H-1", way.end, "struck out", leaf, "extension", None, False, said, "hard constraint"),
    )


def _step(taken: Taken) -> Step:
    """One edge as a step; an assumed answer shows the edge of the source tree that it follows."""
    e = taken.edge
    origin: Origin = "seed001" if e.follows else e.origin
    return Step(e.follows or e.id, e.start, e.answer, e.end, origin, e.grade, taken.assumed, e.why, e.source)


def _cheapest(questions: tuple[Ask, ...]) -> str:
    """The test that most likely disproves the advice, for its price: how to learn the best question's answer."""
    return experiment(questions[0].fact) if questions else NO_TEST
