"""Advise on thousands of random sets of facts and look for an exception, an invented contradiction or a broken promise."""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from advisor.decide.advise import advise
from advisor.decide.answers import FACTS, Answers, Fact, Value, merge, parse, possible
from advisor.decide.constraints import LAST_RESORT, struck
from advisor.decide.leaves import LEAVES
from advisor.decide.questions import BY_FACT
from advisor.decide.walk import walk
from advisor.decide.worlds import primary, read, relevant, worlds

RESULT = Path(__file__).parent / "results" / "decision_soak.json"
SETS = 10_000


def _values(fact: Fact) -> st.SearchStrategy[object]:
    match fact.kind:
        case "yes_no":
            return st.booleans()
        case "choice":
            return st.sampled_from(fact.choices)
        case "share":
            return st.one_of(st.sampled_from((0.0, 0.2, 0.5, 0.9, 1.0)), st.floats(0, 1))
        case "count":
            return st.one_of(st.sampled_from((0, 1, 30, 300, 2_000, 60_000)), st.integers(0, 10**9))
        case "number":
            return st.one_of(st.sampled_from((8.0, 24.0, 80.0)), st.floats(0, 1000))
        case "date":
            return st.dates().map(str)
        case "text":
            return st.text(min_size=1).filter(str.strip)


def _consistent(drawn: Mapping[str, Value]) -> Answers:
    """The drawn facts in their order, without those that contradict an earlier one."""
    known: dict[str, Value] = {}
    for name, value in drawn.items():
        if possible(known, name, value):
            known[name] = value
    return parse(known)


ANSWERS = (
    st.integers(0, 40)
    .flatmap(lambda n: st.permutations(sorted(FACTS)).map(lambda names: names[:n]))
    .flatmap(lambda names: st.fixed_dictionaries({name: _values(FACTS[name]) for name in names}))
    .map(_consistent)
)
"""Any set of facts that can be true together, from nothing known to forty facts."""


def broken(answers: Answers) -> Iterator[str]:
    """Which promises of the advice do not hold for these answers; nothing for sound advice."""
    advice = advise(answers)
    if advice != advise(answers.but()):
        yield "equal answers, different advice"
    if advice.primary not in LEAVES or [s.leaf for s in advice.plan if s.role == "primary"] != [
        advice.primary
    ]:
        yield "no complete answer"
    if advice.primary != LAST_RESORT and struck(advice.primary, answers):
        yield "a struck-out leaf is advised"
    yield from _contradictions(answers)
    yield from _irrelevant(answers, advice.primary)
    yield from _confirmed(answers, advice.primary)
    yield from _walked_back(answers, advice.primary)


def _contradictions(answers: Answers) -> Iterator[str]:
    """Whatever is assumed, asked or offered as a flip fits beside what is known."""
    known = answers.known()
    for world in worlds(answers):
        assumed = {**known, **dict(world.decided)}
        if not all(possible(assumed, fact, value) for fact, value in world.decided):
            yield f"a world contradicts itself: {world.decided}"
    advice = advise(answers)
    for flip in advice.flips:
        value = flip.change.split()[-1]
        told = parse({flip.fact: value}).get(flip.fact)
        if told is not None and not possible(
            {k: v for k, v in known.items() if k != flip.fact}, flip.fact, told
        ):
            yield f"a flip contradicts what is known: {flip.fact}={value}"
    for pair in advice.flip_pairs:
        told = parse({flip.fact: flip.change.split()[-1] for flip in pair})
        left = answers.but(**dict.fromkeys(flip.fact for flip in pair))
        merge(left, told)  # raises where it contradicts
        if (
            "<=" not in f"{pair}"
            and ">=" not in f"{pair}"
            and primary(left.but(**told.known())) != pair[0].primary
        ):
            yield f"a pair of flips leads elsewhere: {pair}"
    for ask in advice.ask_next:
        question = BY_FACT.get(ask.fact)
        told = (
            [parse({ask.fact: choice.value}).get(ask.fact) for choice in question.choices] if question else []
        )
        fitting = [value for value in told if value is not None and possible(known, ask.fact, value)]
        if question and not fitting:
            yield f"a question without an answer that fits: {ask.fact}"
        for value in fitting:
            merge(answers, parse({ask.fact: value}))  # raises where it contradicts


def _irrelevant(answers: Answers, leaf: str) -> Iterator[str]:
    """A fact that the way does not look at changes no leaf, whatever its value."""
    looked_at = relevant(answers)
    for name, fact in FACTS.items():
        if name not in looked_at:
            for value in _some(fact):
                if primary(answers.but(**{name: value})) != leaf:
                    yield f"an irrelevant fact changes the leaf: {name}={value}"


def _some(fact: Fact) -> tuple[Value, ...]:
    """Values from all over the domain of a fact."""
    match fact.kind:
        case "yes_no":
            return True, False
        case "choice":
            return fact.choices
        case "share":
            return 0.0, 0.5, 1.0
        case "count":
            return 0, 60, 10**9
        case "number":
            return 0.0, 24.0, 2_000.0
        case "date":
            return "2020-01-01", "2030-01-01"
        case "text":
            return ("a life",)


def _confirmed(answers: Answers, leaf: str) -> Iterator[str]:
    """Learning what was assumed on the way contradicts nothing, and leads nowhere else."""
    way = walk(answers)
    confirms = {"Q1-Yes": ("lacks_knowledge", True), "Q4-Yes": ("lacks_style_format", True)}
    for step in way.taken:
        fact, value = confirms.get(step.edge.follows, ("", True))
        if step.assumed and fact and answers.get(fact) is None:
            if not possible(answers.known(), fact, value):
                yield f"what was assumed contradicts what is known: {fact}"
            elif primary(answers.but(**{fact: value})) != leaf:
                yield f"what was assumed leads elsewhere once it is known: {fact}"


def _walked_back(answers: Answers, leaf: str) -> Iterator[str]:
    """An answer that is taken back leaves no trace."""
    for fact in read(answers):
        if answers.get(fact) is None and FACTS[fact].prior:
            there = answers.but(**{fact: FACTS[fact].prior[0][0]})
            if there.but(**{fact: None}) != answers or primary(there.but(**{fact: None})) != leaf:
                yield f"taking back {fact} leaves a trace"


def main() -> None:
    """Run all sets, print the table, write the result."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sets", type=int, default=SETS)
    options.add_argument("--result", type=Path, default=RESULT)
    chosen = options.parse_args()
    leaves: Counter[str] = Counter()
    bands: Counter[str] = Counter()
    faults: Counter[str] = Counter()

    @settings(max_examples=chosen.sets, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(ANSWERS)
    def soak(answers: Answers) -> None:
        advice = advise(answers)
        leaves[advice.primary] += 1
        bands[advice.confidence.band] += 1
        faults.update(broken(answers))

    began = time.process_time()
    soak()
    result = {
        "sets": sum(leaves.values()),
        "faults": dict(faults.most_common(20)),
        "leaves": dict(leaves.most_common()),
        "bands": dict(bands.most_common()),
        "cpu_seconds": round(time.process_time() - began, 1),
    }
    print(json.dumps(result, indent=1))
    chosen.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
