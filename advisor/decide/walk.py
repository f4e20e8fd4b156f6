"""Follow the answers through the graph: plain data, no library, because a single advice walks a thousand times."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from advisor.decide import extension, tree
from advisor.decide.answers import Answers
from advisor.decide.predicates import Test
from advisor.decide.tree import Edge, Node

Mode = Literal["classic", "expert"]

ALL_NODES: Final = (*tree.NODES, *extension.NODES)
ALL_EDGES: Final = (*extension.EDGES, *tree.EDGES, *extension.ASSUMED)
ASSUMED_IDS: Final = frozenset(edge.id for edge in extension.ASSUMED)


def _by_start(edges: tuple[Edge, ...]) -> Mapping[str, tuple[Edge, ...]]:
    return MappingProxyType({n.name: tuple(e for e in edges if e.start == n.name) for n in ALL_NODES})


_OUT: Final[Mapping[Mode, Mapping[str, tuple[Edge, ...]]]] = MappingProxyType(
    {"classic": _by_start(tree.EDGES), "expert": _by_start(ALL_EDGES)}
)
_WAYS: Final[Mapping[str, tuple[tuple[Test, str], ...]]] = MappingProxyType(
    {name: tuple((edge.test, edge.end) for edge in edges) for name, edges in _OUT["expert"].items()}
)
NODES: Final[Mapping[str, Node]] = MappingProxyType({node.name: node for node in ALL_NODES})


@dataclass(frozen=True, slots=True)
class Taken:
    """An edge that was followed; `assumed` where an answer that could have led elsewhere is not known."""

    edge: Edge
    assumed: bool


@dataclass(frozen=True, slots=True)
class Walk:
    """The edges taken, and the node where they stopped: a leaf, or a question without an answer."""

    taken: tuple[Taken, ...]
    end: str

    @property
    def finished(self) -> bool:
        """Whether it ended at a leaf."""
        return NODES[self.end].kind == "leaf"


def walk(answers: Answers, mode: Mode = "expert", start: str = "Start") -> Walk:
    """Follow the answers from `start` to a leaf; in classic mode also to the first question without an answer."""
    out = _OUT[mode]
    taken: list[Taken] = []
    node = start
    while True:
        step = _next(out[node], answers)
        if step is None:
            return Walk(tuple(taken), node)
        taken.append(step)
        node = step.edge.end


def leaf(answers: Answers, start: str = "Start") -> str:
    """The leaf alone, for those who walk very often."""
    node = start
    while ways := _WAYS[node]:
        for test, end in ways:
            if test(answers):
                node = end
                break
    return node


def _next(edges: tuple[Edge, ...], answers: Answers) -> Taken | None:
    unknown = False
    for edge in edges:
        answer = edge.test(answers)
        if answer:
            return Taken(edge, edge.id in ASSUMED_IDS or unknown)
        unknown = unknown or answer is None
    return None
