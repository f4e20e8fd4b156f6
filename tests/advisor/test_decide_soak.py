"""Random sets of facts keep the promises of the advice; `benchmarks/decision_soak.py` runs the same on thousands."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from advisor.decide.advise import advise
from advisor.decide.answers import merge, parse

_SPEC = importlib.util.spec_from_file_location(
    "decision_soak", Path(__file__).parents[2] / "benchmarks" / "decision_soak.py"
)
soak = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(soak)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(soak.ANSWERS)
def test_nothing_known_or_assumed_contradicts_and_nothing_irrelevant_matters(answers):
    assert list(soak.broken(answers)) == []


@pytest.mark.parametrize(
    "facts",
    [
        {"lacks_skill": "yes", "lacks_knowledge": "no", "verifier": "programmatic", "student_success": 0.3, "pass_at_k": 0.5},
        {"lacks_style_format": "yes", "prompt_can_fix": "no", "n_labelled": 800, "label_quality": "gold"},
    ],
    ids=["many tries do no worse than one", "labels of a quality exist"],
)  # fmt: skip
def test_a_flip_never_proposes_what_the_other_facts_rule_out(facts):
    answers = parse(facts)
    for flip in advise(answers).flips:
        told = parse({flip.fact: flip.change.split()[-1]})

        assert merge(answers, told).get(flip.fact) == told.get(flip.fact)
