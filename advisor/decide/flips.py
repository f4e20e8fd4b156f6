"""What would flip the advice: for each fact the smallest change that leads to another leaf, as an experiment."""

from collections.abc import Sequence
from math import ceil, floor
from types import MappingProxyType
from typing import Final, TypeVar

from advisor.decide.advice import Flip
from advisor.decide.answers import FACTS, KNOWS, Answers, Fact, Value, possible, said
from advisor.decide.asking import OTHERS, wording
from advisor.decide.beliefs import prior
from advisor.decide.groups import GROUPS
from advisor.decide.leaves import family
from advisor.decide.questions import BY_FACT
from advisor.decide.worlds import Nearby
from recipes.words import N_

_V = TypeVar("_V", bound=Value)

Found = tuple[str, Value, str]
"""A change of one fact: ">=", "<=" or "" (for "is"), the value, and the leaf that it leads to."""

SHARES: Final = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95, 1.0)
COUNTS: Final = (
    0,
    10,
    20,
    50,
    100,
    200,
    300,
    500,
    1_000,
    2_000,
    5_000,
    20_000,
    50_000,
    200_000,
    10**6,
    10**8,
    10**9,
)
NUMBERS: Final = (0.0, 4.0, 8.0, 16.0, 24.0, 48.0, 80.0, 160.0, 640.0, 2_000.0)
"""Where to look for a threshold; bisection then finds it between two of these."""
EXACT: Final = 0.01
"""How finely a share or a number is bisected; counts are bisected to one."""
SHOWN: Final = 10
MISTAKEN: Final = 0.15
"""How plausible it is that a known fact is, or soon will be, on the other side of its threshold."""
LEAST_MINUTES: Final = 5
"""No answer is worth more only because it takes a moment."""

EXPERIMENTS: Final = MappingProxyType(
    {
        "prompt_success": N_(
            "Write the best prompt you can, with three to eight examples, and count right answers on 20 to 50 real "
            "items."
        ),
        "prompt_can_fix": N_(
            "Spend an hour on the prompt, with three to eight examples, and test it on 20 real items."
        ),
        "lacks_knowledge": N_(
            "Paste the right passage by hand into 20 failed items. If 70 % or more succeed it is knowledge; if 30 % "
            "or fewer, it is behaviour or skill."
        ),
        "oracle_context_success": N_("Paste the right passage by hand into 20 failed items and count."),
        "lacks_style_format": N_("Read 20 failed items: is the content right and only the form wrong?"),
        "lacks_skill": N_("Read 20 failed items with the right facts in the prompt: is the reasoning wrong?"),
        "fewshot_gain": N_("Compare the same 20 items with no example and with five examples in the prompt."),
        "pass_at_k": N_("Sample 16 answers for each of 20 items and count the items with any right one."),
        "retrieval_recall": N_(
            "For 30 questions, look whether the right passage is among the first five retrieved."
        ),
        "label_quality": N_("Let an expert check 50 examples drawn at random."),
        "label_agreement": N_("Let two experts label the same 50 items and compare."),
        "eval_set_size": N_("Collect 50 real items and write down for each what counts as right."),
        "n_labelled": N_("Count the examples, then see what another 50 would take."),
        "corpus_tokens": N_("Count the text: pages times 400, or megabytes times 250,000."),
    }
)
"""How to learn a fact, for those that take more than a question."""


def flips(
    a: Answers, leaf: str, looked_at: Sequence[str], at: Nearby, limit: int = SHOWN
) -> tuple[Flip, ...]:
    """The smallest change of each fact that changes the primary leaf: another family first, then by worth.

    Args:
        a: The answers.
        leaf: The primary leaf that they lead to.
        looked_at: The facts that the way to it looks at.
        at: Where a change of one fact leads.
        limit: How many at most.
    """
    found = _found(a, leaf, looked_at, at)
    if all(family(change[2]) == family(leaf) for change in found.values()):
        found |= _found(a, leaf, looked_at, by_family(at, leaf))
    best = sorted(
        found, key=lambda name: (family(found[name][2]) == family(leaf), -_worth(a, name, leaf, at))
    )
    return tuple(flip(name, found[name]) for name in best[:limit])


def _found(a: Answers, leaf: str, looked_at: Sequence[str], at: Nearby) -> dict[str, Found]:
    return {name: change for name in looked_at if (change := smallest(a, FACTS[name], leaf, at))}


def by_family(at: Nearby, leaf: str) -> Nearby:
    """Where a change leads, as if each leaf of the family of `leaf` were that leaf: for who looks past its like."""

    def folded(fact: str, value: Value) -> str:
        other = at(fact, value)
        return leaf if family(other) == family(leaf) else other

    return folded


def flip(fact: str, found: Found) -> Flip:
    """A change as it is told."""
    sign, value, other = found
    told = f"{sign} {_number(float(value))}" if sign else said(value)
    return Flip(fact, told, other, experiment(fact))


def _worth(a: Answers, fact: str, leaf: str, at: Nearby) -> float:
    """How plausible a change is, a minute of finding out."""
    plausible = MISTAKEN
    if a.get(fact) is None:
        plausible = sum(weight for value, weight in prior(fact, a) if at(fact, value) != leaf)
    return plausible / max(FACTS[fact].minutes, LEAST_MINUTES)


def experiment(fact: str) -> str:
    """How to learn `fact`: its own experiment, the question where a person simply knows, else that of its group."""
    if fact in EXPERIMENTS:
        return EXPERIMENTS[fact]
    if FACTS[fact].minutes == KNOWS and fact in BY_FACT.keys() | OTHERS.keys():
        return wording(fact)
    return GROUPS[FACTS[fact].group].measure


def smallest(a: Answers, fact: Fact, leaf: str, at: Nearby) -> Found | None:
    """The smallest change of `fact` that leads elsewhere than to `leaf`; None where no value of it does."""
    match fact.kind:
        case "yes_no":
            return _first(a, fact.name, (True, False), leaf, at)
        case "choice":
            return _first(a, fact.name, _likely_first(fact), leaf, at)
        case "share":
            return _threshold(a, fact.name, SHARES, leaf, at)
        case "count":
            return _threshold(a, fact.name, COUNTS, leaf, at)
        case "number":
            return _threshold(a, fact.name, NUMBERS, leaf, at)
        case "text" | "date":
            return None


def _likely_first(fact: Fact) -> Sequence[Value]:
    weight = dict(fact.prior)
    return sorted(fact.choices, key=lambda value: -weight.get(value, 0.0))


def _first(a: Answers, fact: str, values: Sequence[Value], leaf: str, at: Nearby) -> Found | None:
    now = a.get(fact)
    others = ((value, at(fact, value)) for value in fitting(a, fact, values) if value != now)
    return next((("", value, other) for value, other in others if other != leaf), None)


def fitting(a: Answers, fact: str, values: Sequence[_V]) -> list[_V]:
    """The values that contradict nothing else that is known: no experiment can find another."""
    others = a.but(**{fact: None}).known()
    return [value for value in values if possible(others, fact, value)]


def _threshold(a: Answers, fact: str, grid: Sequence[float], leaf: str, at: Nearby) -> Found | None:
    """The nearest threshold above or below the value; for an unknown value, the one that most of the grid crosses."""
    now = a.get(fact)
    centre = float(now) if isinstance(now, int | float) else None
    grid = fitting(a, fact, grid)
    above = [x for x in grid if centre is None or x > centre]
    below = [x for x in reversed(grid) if centre is None or x < centre]
    up = _cross(at, fact, above, centre, leaf)
    down = _cross(at, fact, below, centre, leaf)
    both = [side for side in (up and (">=", *up), down and ("<=", *down)) if side]
    return min(both, key=lambda side: abs(side[1] - (centre or 0.0))) if both else None


def _cross(
    at: Nearby, fact: str, grid: Sequence[float], start: float | None, leaf: str
) -> tuple[float, str] | None:
    """Walk along the grid to the first value with another leaf, then bisect back to where it begins."""
    whole = FACTS[fact].kind == "count"
    same = start
    for value in grid:
        other = _at(at, fact, value, whole)
        if other == leaf:
            same = value
        elif same is None:  # the far end differs already: no value of the same leaf to bisect from
            continue
        else:
            return _bisect(at, fact, same, value, leaf, whole)
    return None


def _bisect(at: Nearby, fact: str, same: float, differs: float, leaf: str, whole: bool) -> tuple[float, str]:
    while abs(differs - same) > (1 if whole else EXACT):
        middle = (same + differs) // 2 if whole else (same + differs) / 2
        if _at(at, fact, middle, whole) == leaf:
            same = middle
        else:
            differs = middle
    if not whole:
        shown = _away(same, differs)
        differs = differs if _at(at, fact, shown, whole) == leaf else shown
    return differs, _at(at, fact, differs, whole)


def _away(same: float, differs: float) -> float:
    """`differs` to two digits, away from `same`, so that the shown number still flips."""
    return (floor(100 * differs) if differs < same else ceil(100 * differs)) / 100


def _at(at: Nearby, fact: str, value: float, whole: bool) -> str:
    return at(fact, int(value) if whole else value)


def _number(value: float) -> str:
    return f"{value:g}" if value < 1000 else f"{value:.0f}"
