"""The decision graph as text: mermaid, dot, JSON, or an outline for a terminal."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from advisor.decide.graph import Graph, strings
from advisor.decide.tree import Edge, Node
from advisor.text import missing, t

SHAPES: Final = {"start": ("([", "])"), "question": ("{", "}"), "leaf": ("[", "]")}
DOT_SHAPES: Final = {"start": "oval", "question": "diamond", "leaf": "box"}


def mermaid(nodes: Sequence[Node], edges: Sequence[Edge]) -> str:
    """Mermaid source; every label is quoted, because two of the source tree's have parentheses."""
    return "\n".join(
        (
            "flowchart TD",
            *(f"    {n.name}{SHAPES[n.kind][0]}{_quoted(t(n.label))}{SHAPES[n.kind][1]}" for n in nodes),
            *(f"    {e.start} -->{f'|{_quoted(e.answer)}|' if e.answer else ''} {e.end}" for e in edges),
        )
    )


def _quoted(label: str) -> str:
    return '"' + label.replace('"', "#quot;") + '"'


def dot(nodes: Sequence[Node], edges: Sequence[Edge]) -> str:
    """Graphviz source."""
    return "\n".join(
        (
            "digraph decision {",
            *(f"    {n.name} [shape={DOT_SHAPES[n.kind]}, label={json.dumps(t(n.label), ensure_ascii=False)}];"
              for n in nodes),
            *(f"    {e.start} -> {e.end} [label={json.dumps(e.answer)}];" for e in edges),
            "}",
        )
    )  # fmt: skip


def data(nodes: Sequence[Node], edges: Sequence[Edge]) -> dict[str, object]:
    """Nodes and edges as JSON, with predicate, reason, source and grade."""
    return {
        "nodes": [{"name": n.name, "kind": n.kind, "label": n.label, "origin": n.origin} for n in nodes],
        "edges": [_edge(edge) for edge in edges],
    }


def _edge(edge: Edge) -> dict[str, object]:
    return {
        "id": edge.id, "from": edge.start, "answer": edge.answer, "to": edge.end, "predicate": edge.test.__name__,
        "when": (edge.test.__doc__ or "").strip(), "why": edge.why, "source": edge.source, "grade": edge.grade,
        "origin": edge.origin,
    }  # fmt: skip


def untranslated(drawn: Graph) -> Iterator[str]:
    """What the graph says that no catalogue has; the source's Yes and No have an entry of their own."""
    yield from (
        f"no {code} translation of {said!r}" for code in ("zh",) for said in missing(strings(drawn), code)
    )


def outline(nodes: Sequence[Node], edges: Sequence[Edge]) -> str:
    """Each node once, with the ways that lead on from it."""
    labels = {node.name: t(node.label) for node in nodes}
    return "\n".join(line for node in nodes for line in _lines(node, edges, labels))


def _lines(node: Node, edges: Sequence[Edge], labels: Mapping[str, str]) -> Iterator[str]:
    out = [edge for edge in edges if edge.start == node.name]
    if not out and node.kind == "leaf":
        return
    yield f"{node.name}: {labels[node.name]}"
    for edge in out:
        answer = f"{t(edge.answer)} -> " if edge.answer else "-> "
        yield f"    {answer}{edge.end}: {labels[edge.end]}  [{edge.id}]"
