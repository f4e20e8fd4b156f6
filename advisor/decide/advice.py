"""What the advice consists of: plain frozen values, in the shape of `advisor recommend --json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

Band = Literal["high", "medium", "low"]


class Filled(str):
    """A sentence with its places filled: reads as English, and keeps what a translation needs."""

    template: str
    values: Mapping[str, str | float]

    def __new__(cls, template: str, **values: str | float) -> Self:
        """Fill the `{name}` places of the message id `template`."""
        self = super().__new__(cls, template.format(**values))
        self.template, self.values = template, values
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[str], Mapping[str, str | float]]:
        """What a copy is made from."""
        return (self.template,), self.values


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the plan of work; `role` is "baseline", "primary" or "companion"."""

    stage: int
    leaf: str
    role: str
    why: str
    attachments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Axes:
    """Four independent choices, as codes: what stands in the context, what is learned, what moves, where it runs."""

    context: str
    objective: str
    update: str
    runs: str


@dataclass(frozen=True, slots=True)
class Contested:
    """What the second opinion would rather do, and both scores in log-odds units."""

    leaf: str
    score: float
    ours: float


@dataclass(frozen=True, slots=True)
class Alternative:
    """A leaf that was not chosen but could be; `score` is the evidence score in log-odds units."""

    leaf: str
    score: float
    why: str


@dataclass(frozen=True, slots=True)
class Excluded:
    """A leaf that a hard constraint struck out, and the cheapest change that readmits it."""

    leaf: str
    reason: str
    relax: str


@dataclass(frozen=True, slots=True)
class Confidence:
    """Robustness R x (0.4 + 0.6 evidence E) x agreement G, each in [0, 1]; `caps` say what held the band down."""

    band: Band
    value: float
    R: float
    E: float
    G: float
    caps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flip:
    """The smallest change of one fact that changes the primary leaf, phrased as an experiment."""

    fact: str
    change: str
    primary: str
    experiment: str


FlipPair = tuple[Flip, Flip]
"""Two changes that lead to the leaf which both name, but only together."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question worth asking next: `question` is the sentence, `minutes` what it costs to learn the answer."""

    fact: str
    question: str
    minutes: int


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning with its code and the rule that raised it."""

    code: str
    message: str
    edge: str


@dataclass(frozen=True, slots=True)
class Step:
    """One edge taken; `assumed` where the answer was not known but followed from the walking rules."""

    edge: str
    start: str
    answer: str
    end: str
    origin: Literal["seed001", "extension"]
    grade: str | None
    assumed: bool
    why: str
    source: str


@dataclass(frozen=True, slots=True)
class Advice:
    """The whole answer. `classic_leaf` is what the source tree alone says, or None where it has no edge.

    All sentences are message ids (English); the top floors translate them.
    """

    classic_leaf: str | None
    primary: str
    plan: tuple[Stage, ...]
    alternatives: tuple[Alternative, ...]
    excluded: tuple[Excluded, ...]
    axes: Axes
    contested: Contested | None
    """Where the walk and the evidence score disagree: what the score prefers."""
    confidence: Confidence
    flips: tuple[Flip, ...]
    flip_pairs: tuple[FlipPair, ...]
    """Only where none of the flips leads to another family of leaves."""
    ask_next: tuple[Ask, ...]
    warnings: tuple[Warned, ...]
    path: tuple[Step, ...]
    cheapest_test: str
    stop_rule: str
    open: bool
    """True while no diagnosis is known: the primary leaf is then only the cheapest first step."""
