"""The source tree is kept verbatim, the whole graph is sound, and unknown never means no."""

import pytest

from advisor.decide import extension, graph, tree
from advisor.decide import predicates as p
from advisor.decide.answers import parse
from advisor.decide.leaves import LEAVES, Leaf
from advisor.decide.tree import Edge
from advisor.decide.walk import walk
from advisor.show.graph import untranslated

LABELS = {
    "Start": "I have a problem",
    "Q1": "Does the model lack KNOWLEDGE?",
    "Q2": "Is the knowledge changing often?",
    "Q3": "Is the dataset huge?",
    "Q4": "Does the model lack STYLE/FORMAT?",
    "Q5": "Can Prompt Engineering fix it?",
    "RAG": "Use RAG",
    "FT": "Fine-Tuning (Knowledge Injection)",
    "Prompt": "Use Few-Shot Prompting",
    "FT2": "Fine-Tuning (Style Injection)",
}
EDGES = {
    ("Start", "", "Q1"), ("Q1", "Yes", "Q2"), ("Q2", "Yes", "RAG"), ("Q2", "No", "Q3"), ("Q3", "Yes", "FT"),
    ("Q3", "No", "RAG"), ("Q1", "No", "Q4"), ("Q4", "Yes", "Q5"), ("Q5", "Yes", "Prompt"), ("Q5", "No", "FT2"),
}  # fmt: skip

WALKS = {
    ("Q1-Yes", "Q2-Yes"): {"lacks_knowledge": "yes", "knowledge_change": "often"},
    ("Q1-Yes", "Q2-No", "Q3-Yes"): {"lacks_knowledge": "yes", "knowledge_change": "static", "corpus": "huge"},
    ("Q1-Yes", "Q2-No", "Q3-No"): {
        "lacks_knowledge": "yes",
        "knowledge_change": "yearly",
        "corpus": "not_huge",
    },
    ("Q1-No", "Q4-Yes", "Q5-Yes"): {
        "lacks_knowledge": "no",
        "lacks_style_format": "yes",
        "prompt_can_fix": "yes",
    },
    ("Q1-No", "Q4-Yes", "Q5-No"): {
        "lacks_knowledge": "no",
        "lacks_style_format": "yes",
        "prompt_can_fix": "no",
    },
}
LEAF = {"Q2-Yes": "RAG", "Q3-Yes": "FT", "Q3-No": "RAG", "Q5-Yes": "Prompt", "Q5-No": "FT2"}


def _parts(found):
    labels = {node.name: node.label for node in graph.nodes(found)}
    return labels, {(edge.start, edge.answer, edge.end) for edge in graph.edges(found)}


@pytest.mark.parametrize("mode", ["classic", "expert"])
def test_the_part_with_the_origin_of_the_source_is_the_source_tree_exactly(mode):
    assert _parts(graph.of_origin(graph.build(mode), "seed001")) == (LABELS, EDGES)


def test_classic_mode_walks_the_source_tree_alone():
    assert _parts(graph.build("classic")) == (LABELS, EDGES)


@pytest.mark.parametrize(("ids", "facts"), WALKS.items(), ids=lambda x: x[-1] if isinstance(x, tuple) else "")
def test_every_edge_of_the_source_tree_is_walked(ids, facts):
    way = walk(parse(facts), "classic")

    assert tuple(step.edge.id for step in way.taken) == ("Start-Q1", *ids)
    assert (way.end, way.finished) == (LEAF[ids[-1]], True)


def test_the_walks_above_cover_all_ten_edges():
    assert {"Start-Q1", *(name for ids in WALKS for name in ids)} == {edge.id for edge in tree.EDGES}


@pytest.mark.parametrize(
    ("facts", "stops"),
    [
        ({}, "Q1"),
        ({"lacks_knowledge": "yes"}, "Q2"),
        ({"lacks_knowledge": "yes", "knowledge_change": "static"}, "Q3"),
        ({"lacks_knowledge": "no"}, "Q4"),
        ({"lacks_knowledge": "no", "lacks_style_format": "yes"}, "Q5"),
        ({"lacks_knowledge": "no", "lacks_style_format": "yes", "prompt_success": 0.7}, "Q5"),
    ],
)
def test_an_unknown_answer_stops_the_source_tree_and_is_never_taken_for_no(facts, stops):
    way = walk(parse(facts), "classic")

    assert (way.end, way.finished) == (stops, False)


def test_the_source_tree_has_no_way_on_from_q4_no_and_the_check_finds_it():
    assert list(graph.problems(graph.build("classic"))) == ["'Q4' has no edge for No"]


def test_the_whole_graph_is_sound():
    assert list(graph.problems(graph.build("expert"))) == []


def test_every_expert_walk_ends_at_a_leaf_that_is_described():
    ends = {edge.end for edge in (*extension.EDGES, *extension.ASSUMED)}
    leaves = {node.name for node in extension.NODES if node.kind == "leaf"}

    assert leaves == set(LEAVES)
    assert ends <= {node.name for node in (*tree.NODES, *extension.NODES)}


def test_edge_ids_are_unique():
    ids = [edge.id for edge in (*tree.EDGES, *extension.EDGES, *extension.ASSUMED)]

    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("edge", extension.ASSUMED, ids=lambda edge: edge.id)
def test_an_assumed_edge_follows_an_edge_of_the_source_tree_or_looks_elsewhere(edge):
    follows = {found.id: (found.start, found.answer, found.end) for found in tree.EDGES}

    assert edge.end == "q_else" or follows[edge.follows] == (edge.start, edge.answer, edge.end)


def test_a_leaf_that_lacks_a_duty_or_a_meaning_is_found(monkeypatch):
    bare = Leaf("sft_lora", "", "", ("held_out_split", "nonsense"))
    monkeypatch.setattr(graph, "LEAVES", {**LEAVES, "sft_lora": bare})
    said = set(graph.problems(graph.build("expert")))

    assert "the leaf 'sft_lora' lacks a meaning" in said
    assert "the leaf 'sft_lora' lacks a family" in said
    assert "the leaf 'sft_lora' lacks a description of 'nonsense'" in said
    assert "the leaf 'sft_lora' lacks the duty 'stop_rule'" in said


def test_every_string_of_the_graph_is_translated_and_one_that_is_not_is_found():
    drawn = graph.build("expert")
    strange = Edge("X", "Q4", "nowhere", "q_else", p.always, "Nobody has translated this.", "ours")
    assert list(untranslated(drawn)) == []

    drawn.add_edge("Q4", "q_else", key="X", edge=strange)

    assert list(untranslated(drawn)) == [
        "no zh translation of 'nowhere'",
        "no zh translation of 'Nobody has translated this.'",
    ]


def test_a_cycle_an_orphan_and_a_dead_end_are_found():
    broken = graph.build("expert")
    broken.add_edge("rag", "Start", key="X", edge=tree.EDGES[0])
    broken.add_node("orphan", node=tree.Node("orphan", "question", "?"))
    said = "\n".join(graph.problems(broken))

    assert "never ends" in said
    assert "no walk reaches 'orphan'" in said
    assert "'orphan' has no edge for Yes" in said
