"""The decision tree of source document 001, verbatim: ten nodes, ten edges. Never edited; see extension.py."""

from dataclasses import dataclass
from typing import Final, Literal

from advisor.decide.predicates import (
    Test,
    always,
    changes_often,
    is_huge,
    lacks_knowledge,
    lacks_style,
    no,
    prompt_fixes_it,
)
from recipes.words import N_

Origin = Literal["seed001", "extension"]
Grade = Literal["A", "B", "C", "D"]
Kind = Literal["start", "question", "leaf"]


@dataclass(frozen=True, slots=True)
class Node:
    """A place on the way: where it starts, a question, or a leaf. `label` is what the drawing says."""

    name: str
    kind: Kind
    label: str
    origin: Origin = "extension"


@dataclass(frozen=True, slots=True)
class Edge:
    """Where an answer leads, why, and who says so.

    `answer` is marked for the catalogues; the source tree's own stay as drawn and are translated when shown.
    `test` is the condition; edges of one node are tried in order. `grade` is the strength of the evidence for
    this step, None where it only routes; `contested` names the contradiction (contract X2, X4, X5 ...).
    """

    id: str
    start: str
    answer: str
    end: str
    test: Test
    why: str
    source: str
    grade: Grade | None = None
    origin: Origin = "extension"
    contested: str = ""
    follows: str = ""
    """The edge of the source tree that is followed where an answer is assumed."""


NODES: Final = (
    Node("Start", "start", N_("I have a problem"), "seed001"),
    Node("Q1", "question", N_("Does the model lack KNOWLEDGE?"), "seed001"),
    Node("Q2", "question", N_("Is the knowledge changing often?"), "seed001"),
    Node("Q3", "question", N_("Is the dataset huge?"), "seed001"),
    Node("Q4", "question", N_("Does the model lack STYLE/FORMAT?"), "seed001"),
    Node("Q5", "question", N_("Can Prompt Engineering fix it?"), "seed001"),
    Node("RAG", "leaf", N_("Use RAG"), "seed001"),
    Node("FT", "leaf", N_("Fine-Tuning (Knowledge Injection)"), "seed001"),
    Node("Prompt", "leaf", N_("Use Few-Shot Prompting"), "seed001"),
    Node("FT2", "leaf", N_("Fine-Tuning (Style Injection)"), "seed001"),
)

DOCUMENT: Final = N_("source document 001")

EDGES: Final = (
    Edge("Start-Q1", "Start", "", "Q1", always,
         N_("The tree begins by asking what is missing."), DOCUMENT, None, "seed001"),
    Edge("Q1-Yes", "Q1", "Yes", "Q2", lacks_knowledge,
         N_("Knowledge is missing: how it changes decides where it should live."), DOCUMENT, None, "seed001"),
    Edge("Q2-Yes", "Q2", "Yes", "RAG", changes_often,
         N_("An index is mended in seconds, weights are not."),
         "Ovadia 2312.05934; Soudani 2403.01432", "A", "seed001"),
    Edge("Q2-No", "Q2", "No", "Q3", no(changes_often),
         N_("What does not change could be trained in, if there is enough of it."), DOCUMENT, None, "seed001"),
    Edge("Q3-Yes", "Q3", "Yes", "FT", is_huge,
         N_("A huge, unchanging body of text is the one case in which the tree trains knowledge in."),
         DOCUMENT, "D", "seed001", "X2"),
    Edge("Q3-No", "Q3", "No", "RAG", no(is_huge),
         N_("What is small enough to look up is better looked up."),
         "Ovadia 2312.05934; Soudani 2403.01432", "A", "seed001"),
    Edge("Q1-No", "Q1", "No", "Q4", no(lacks_knowledge),
         N_("The facts are there, so the behaviour is in question."), DOCUMENT, None, "seed001"),
    Edge("Q4-Yes", "Q4", "Yes", "Q5", lacks_style,
         N_("Style or form is missing: the cheapest cure is tried first."), DOCUMENT, None, "seed001"),
    Edge("Q5-Yes", "Q5", "Yes", "Prompt", prompt_fixes_it,
         N_("What a prompt can fix is not trained."),
         "OpenAI, Optimizing LLM Accuracy; Manning ch. 5", "C", "seed001"),
    Edge("Q5-No", "Q5", "No", "FT2", no(prompt_fixes_it),
         N_("Style that prompts do not hold is what fine-tuning teaches."), DOCUMENT, None, "seed001"),
)  # fmt: skip
"""`Q4` has no edge for No: the source document ends there (contract X16)."""
