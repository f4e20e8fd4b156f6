"""The four independent choices behind a plan, and what is said where walk and score disagree."""

import pytest

from advisor.cli import voice
from advisor.decide.advise import advise
from advisor.decide.answers import parse
from advisor.decide.axes import CONTEXT, OBJECTIVE, RUNS, UPDATE, axes
from advisor.decide.evidence import MARGIN, second_opinion
from advisor.decide.leaves import LEAVES, TRAINING_LEAVES, family
from advisor.show.advice import data, text
from advisor.show.record import markdown
from advisor.text import language, use

SHOWN = {"lacks_style_format": "yes", "lacks_knowledge": "no", "prompt_can_fix": "no", "n_labelled": 3000,
         "label_quality": "gold"}  # fmt: skip
PAIRS = {**SHOWN, "n_pref_pairs": 5000}
LOOKED_UP = {"lacks_knowledge": "yes", "knowledge_change": "daily"}
CASES = [
    (SHOWN, ("prompt", "imitation", "lora", "anywhere")),
    ({**SHOWN, "vram_gb": 12, "privacy": "on_prem"}, ("prompt", "imitation", "qlora", "own_machines")),
    ({**SHOWN, "n_tasks": 5}, ("prompt", "imitation", "many_lora", "anywhere")),
    ({**SHOWN, "team_skill": "api", "provider_ft_available": "yes"}, ("prompt", "imitation", "provider", "provider")),
    (PAIRS, ("prompt", "preference", "lora", "anywhere")),
    ({**PAIRS, "vram_gb": 12}, ("prompt", "preference", "qlora", "own_machines")),
    ({"lacks_skill": "yes", "verifier": "programmatic", "pass_at_k": 0.5}, ("prompt", "reward", "lora", "anywhere")),
    (LOOKED_UP, ("retrieval", "none", "none", "anywhere")),
    ({**LOOKED_UP, "privacy": "offline_device"}, ("retrieval", "none", "none", "device")),
    ({**LOOKED_UP, "lacks_style_format": "yes", "privacy": "vpc_only"}, ("retrieval", "none", "none", "own_cloud")),
    ({"lacks_knowledge": "yes", "knowledge_change": "static", "corpus": "huge", "team_skill": "distributed",
      "vram_gb": 80, "gpus": 8}, ("prompt", "domain_text", "full", "own_machines")),
    ({"prompt_effort": "none"}, ("examples", "none", "none", "anywhere")),
]  # fmt: skip


@pytest.fixture(autouse=True)
def english():
    before = language()
    use("en")
    yield
    use(before)


@pytest.mark.parametrize(("facts", "expected"), CASES)
def test_a_plan_stands_somewhere_on_each_axis(facts, expected):
    found = advise(parse(facts)).axes

    assert (found.context, found.objective, found.update, found.runs) == expected


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_leaf_has_a_place_that_can_be_said(leaf):
    found = axes(parse({}), leaf, ())

    assert found.context in CONTEXT
    assert found.update in UPDATE
    assert found.runs in RUNS
    assert (found.objective != "none") == (leaf in TRAINING_LEAVES) == (found.update != "none")
    assert found.objective in OBJECTIVE


def test_the_axes_are_shown_recorded_and_in_the_json():
    answers = parse(PAIRS)
    advice = advise(answers)

    assert "Learned: prefer the better answer. Moved: LoRA on 16-bit" in " ".join(text(advice).split())
    assert "Learned: prefer the better answer" in markdown(
        advice, answers, date="2026-11-20", version=voice.VERSION
    )
    assert data(advice, answers)["axes"]["objective"] == "preference"


def test_where_the_score_clearly_prefers_another_family_the_advice_is_contested():
    answers = parse({"prompt_success": 0.95, "target_success": 0.9, "optimise_cost_latency": "yes", "n_labelled": 3600,
                     "label_quality": "gold", "task_type": "summarisation"})  # fmt: skip
    advice = advise(answers)

    assert family(advice.primary) == "SFT"
    assert family(advice.contested.leaf) == "prompt"
    assert advice.contested.score >= advice.contested.ours + MARGIN
    assert advice.confidence.G == 0.5
    said = f"Contested: the evidence score prefers {advice.contested.leaf}"
    assert said in " ".join(text(advice).split())
    assert "Contested" in markdown(advice, answers, date="2026-11-20", version=voice.VERSION)
    assert data(advice, answers)["contested"]["leaf"] == advice.contested.leaf


def test_where_both_agree_nothing_is_contested():
    answers = parse(LOOKED_UP)
    advice = advise(answers)

    assert (advice.contested, data(advice, answers)["contested"]) == (None, None)
    assert "Contested" not in text(advice)


def test_a_margin_of_less_than_one_unit_is_no_contest():
    score = dict.fromkeys(LEAVES, 0.0) | {"rag": 2.0, "sft_lora": 2.0 + MARGIN - 0.01}

    assert second_opinion("rag", score) is None
    assert second_opinion("rag", score | {"sft_lora": 2.0 + MARGIN}).leaf == "sft_lora"
