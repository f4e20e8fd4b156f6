"""What to ask next: the unknown fact with the most expected change of leaf a minute."""

from typing import Final

from advisor.decide.advice import Ask, Filled
from advisor.decide.answers import FACTS, Answers, possible
from advisor.decide.questions import BY_FACT
from advisor.decide.worlds import primary, read
from recipes.words import N_

SHOWN: Final = 3


def ask_next(a: Answers, leaf: str, first: tuple[str, ...] = (), limit: int = SHOWN) -> tuple[Ask, ...]:
    """The questions worth asking, best first.

    Args:
        a: The answers.
        leaf: The primary leaf that they lead to.
        first: Unknown facts that the walk assumed; they go before all others.
        limit: How many at most.
    """
    worth = {
        name: _expected_change(a, name, leaf) / FACTS[name].minutes
        for name in dict.fromkeys((*first, *read(a)))
        if FACTS[name].prior and a.get(name) is None
    }
    ranked = sorted(worth, key=lambda name: (name not in first, -worth[name]))
    return tuple(_ask(name) for name in ranked if worth[name] > 0 or name in first)[:limit]


def _expected_change(a: Answers, fact: str, leaf: str) -> float:
    known = a.known()
    return sum(
        weight
        for value, weight in FACTS[fact].prior
        if possible(known, fact, value) and primary(a.but(**{fact: value})) != leaf
    )


def _ask(fact: str) -> Ask:
    question = BY_FACT.get(fact)
    text = (
        question.text
        if question
        else Filled(N_("What is {fact}: {means}?"), fact=fact, means=FACTS[fact].means)
    )
    return Ask(fact, text, FACTS[fact].minutes)
