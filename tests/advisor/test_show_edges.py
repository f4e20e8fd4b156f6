"""The answers on the edges of the graph: in the reader's language for people, verbatim for programs."""

import re
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from advisor.decide import graph
from advisor.decide.advise import advise
from advisor.decide.answers import parse
from advisor.decide.walk import ALL_EDGES
from advisor.show import advice, demo
from advisor.show import graph as show
from advisor.show.record import markdown
from advisor.text import language, t, use

PO = Path(__file__).parents[2] / "advisor" / "locale" / "zh" / "LC_MESSAGES" / "advisor.po"
SHOWN = sorted({edge.answer for edge in ALL_EDGES if edge.answer})
CHINESE = re.compile("[\u4e00-\u9fff]")
STYLE = {"lacks_knowledge": "no", "lacks_style_format": "yes", "n_labelled": 2000}


@pytest.fixture
def chinese():
    """The words as a reader of Chinese sees them."""
    before = language()
    use("zh")
    yield
    use(before)


@pytest.fixture
def drawn():
    """Every node and edge there is."""
    found = graph.build("expert")
    return tuple(graph.nodes(found)), tuple(graph.edges(found))


def test_every_answer_has_a_chinese_entry():
    with PO.open("rb") as file:
        entries = read_po(file)

    missing = [
        answer for answer in SHOWN if not (found := entries.get(answer)) or not CHINESE.search(found.string)
    ]

    assert not missing


def test_the_outline_says_each_answer_in_chinese(chinese, drawn):
    answers = re.findall(r"^    (.+?) -> ", show.outline(*drawn), flags=re.MULTILINE)

    assert len(answers) == sum(bool(edge.answer) for edge in drawn[1])
    assert all(CHINESE.search(answer) for answer in answers)


def test_drawings_and_data_keep_the_answers_as_they_are(chinese, drawn):
    _, edges = drawn
    whole = [edge.answer for edge in edges]

    assert [edge["answer"] for edge in show.data(*drawn)["edges"]] == whole
    assert all(f'|"{answer}"|' in show.mermaid(*drawn) for answer in SHOWN)
    assert all(f'[label="{answer}"]' in show.dot(*drawn) for answer in SHOWN)


def test_the_way_of_an_advice_is_chinese_and_its_data_is_not(chinese):
    answers = parse(STYLE)
    found = advise(answers)
    steps = [step.answer for step in found.path if step.answer]

    told = {
        "explained": advice.explain(found, answers),
        "demo": "\n".join(demo.advised(found)),
        "record": markdown(found, answers, date="2026-11-20", version="0"),
    }

    assert [step["answer"] for step in advice.data(found, answers)["path"] if step["answer"]] == steps
    for name, text in told.items():
        assert all(t(answer) in text for answer in steps), name
        assert not [answer for answer in steps if f"-{answer}->" in text or f"({answer}) →" in text], name
