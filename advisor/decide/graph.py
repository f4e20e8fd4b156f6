"""The graph as a graph: built from the data to be checked and drawn, never to decide."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import networkx as nx

from advisor.decide import tree
from advisor.decide.leaves import ATTACHMENTS, DUTIES, LEAVES, TRAINING_LEAVES, Leaf
from advisor.decide.predicates import always
from advisor.decide.stages import stop_rule
from advisor.decide.tree import Edge, Node
from advisor.decide.walk import ALL_EDGES, ALL_NODES, Mode

if TYPE_CHECKING:
    Graph = nx.MultiDiGraph[str]
else:
    Graph = nx.MultiDiGraph

START = "Start"


def build(mode: Mode = "expert") -> Graph:
    """The graph of one mode; every node holds its `node`, every edge its `edge` and the fields of it as attributes."""
    graph: Graph = nx.MultiDiGraph()
    for node in tree.NODES if mode == "classic" else ALL_NODES:
        graph.add_node(node.name, node=node, label=node.label, kind=node.kind, origin=node.origin)
    for edge in tree.EDGES if mode == "classic" else ALL_EDGES:
        graph.add_edge(
            edge.start, edge.end, key=edge.id, edge=edge, answer=edge.answer, predicate=edge.test.__name__,
            origin=edge.origin, rationale=edge.why, source=edge.source, grade=edge.grade,
        )  # fmt: skip
    return graph


def nodes(graph: Graph) -> Iterator[Node]:
    """The nodes, in the order in which they were written down."""
    return (graph.nodes[name]["node"] for name in graph)


def edges(graph: Graph) -> Iterator[Edge]:
    """The edges, in the order in which they are tried at each node."""
    return (attributes["edge"] for _, _, attributes in graph.edges(data=True))


def of_origin(graph: Graph, origin: str) -> Graph:
    """The part of the graph that has one origin."""
    part: Graph = nx.MultiDiGraph()
    part.add_nodes_from((name, found) for name, found in graph.nodes(data=True) if found["origin"] == origin)
    for start, end, key, found in graph.edges(keys=True, data=True):
        if found["origin"] == origin:
            part.add_edge(start, end, key=key, **found)
    return part


def problems(graph: Graph) -> Iterator[str]:
    """Say what is wrong with the graph; a sound graph says nothing.

    The bare source tree has one problem, and this finds it: there is no way on from "Q4: no".
    """
    for cycle in nx.simple_cycles(graph):
        yield f"this walk never ends: {' -> '.join(cycle)}"
    reached = nx.descendants(graph, START) | {START}
    unreached = {node.name for node in nodes(graph) if node.name not in reached}
    for name in sorted(unreached - OFFERED):
        yield f"no walk reaches {name!r}"
    for node in nodes(graph):
        yield from _dead_ends(node, [found["edge"] for _, _, found in graph.out_edges(node.name, data=True)])
    for edge in edges(graph):
        if not (edge.why and edge.source and edge.test.__doc__):
            yield f"{edge.id!r} does not say why, who says so or when"
    for name in graph:
        if name in LEAVES:
            yield from (f"the leaf {name!r} lacks {part}" for part in _lacks(LEAVES[name]))


OFFERED = frozenset({"p_tuning", "prefix_tuning", "adapters"})
"""Leaves that no walk ends at: they are offered as alternatives only (U-2, U-4, U-5)."""


def strings(graph: Graph) -> Iterator[str]:
    """Everything of the graph that a person reads: labels, answers, reasons, what a leaf means and what it demands."""
    for node in nodes(graph):
        yield node.label
        if node.name in LEAVES:
            yield from (ATTACHMENTS[code] for code in LEAVES[node.name].attachments if code in ATTACHMENTS)
            yield stop_rule(node.name)
    for edge in edges(graph):
        yield from filter(None, (edge.answer, edge.why))


def _lacks(leaf: Leaf) -> Iterator[str]:
    """What a complete leaf has: a meaning, a family, duties that are described, and for a training all of the six."""
    if not leaf.means:
        yield "a meaning"
    if not leaf.family:
        yield "a family"
    yield from (f"a description of {code!r}" for code in leaf.attachments if code not in ATTACHMENTS)
    if leaf.name in TRAINING_LEAVES:
        yield from (f"the duty {code!r}" for code in DUTIES if code not in leaf.attachments)


def _dead_ends(node: Node, out: list[Edge]) -> Iterator[str]:
    """A question must have a way on for every answer, the unknown one included where one is foreseen."""
    if node.kind == "leaf":
        if not out and node.origin == "extension" and node.name not in LEAVES:
            yield f"the leaf {node.name!r} is not described"
        return
    if any(edge.test is always for edge in out):
        return
    answers = {edge.answer for edge in out}
    for missing in sorted({"Yes", "No"} - answers):
        yield f"{node.name!r} has no edge for {missing}"
