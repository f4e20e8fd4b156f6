"""The advice on cases, on measured reports and on anything at all."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.decide.advise import advise
from advisor.decide.answers import FACTS, Answers, merge, parse, possible
from advisor.decide.beliefs import prior
from advisor.decide.constraints import struck
from advisor.decide.leaves import ATTACHMENTS, LEAVES, TRAINING_LEAVES
from advisor.decide.measured import facts as measured
from advisor.decide.worlds import primary, relevant, worlds
from recipes.report import Arm, Rate, Report

DATA = Path(__file__).parent.parent / "data"
CASES = json.loads((DATA / "decision_cases.json").read_text(encoding="utf-8"))
CONTRACT = CASES["seed_contract_cases"]
PUBLISHED = [case for case in CASES["cases"] if case["scored"]]
BEYOND = json.loads((DATA / "decision_sanity.json").read_text(encoding="utf-8"))["cases"]


def _facts(case):
    return parse(case["situation"]["facts"], "file")


def _plan(advice):
    return [stage.leaf for stage in advice.plan]


def _codes(advice):
    return {warning.code for warning in advice.warnings}


@pytest.mark.parametrize("case", CONTRACT, ids=lambda case: case["id"])
def test_the_advice_keeps_what_the_source_documents_promise(case):
    advice = advise(_facts(case))

    assert advice.primary in case["recommended"]


def test_strict_output_gets_a_template_step_and_light_tuning():
    case = next(case for case in CONTRACT if case["id"] == "seed004_row4")

    assert {"structured_output", "sft_lora"} <= set(_plan(advise(_facts(case))))


def test_seventy_billion_on_one_48_gb_card_states_its_conditions():
    case = next(case for case in CONTRACT if case["id"] == "seed001_70b_48gb")

    assert "tight_memory_short_sequences" in _codes(advise(_facts(case)))


def test_published_cases_pass_mostly_and_hardly_ever_fail():
    leaves = [(case, advise(_facts(case)).primary) for case in PUBLISHED]
    passed = sum(leaf in case["recommended"] for case, leaf in leaves)
    failed = sum(leaf in case["unacceptable"] for case, leaf in leaves)

    assert passed >= 0.85 * len(leaves)
    assert failed <= 0.03 * len(leaves)


def test_cases_that_were_written_before_the_advice_was_run_on_them_pass_too():
    leaves = [(case, advise(_facts(case)).primary) for case in BEYOND]

    assert sum(leaf in case["recommended"] for case, leaf in leaves) >= 0.85 * len(leaves)
    assert not [case["id"] for case, leaf in leaves if leaf in case["unacceptable"]]


@pytest.mark.parametrize("case", [*PUBLISHED, *BEYOND], ids=lambda case: case["id"])
def test_no_plan_holds_a_forbidden_leaf_and_no_ambiguous_case_is_answered_with_high_confidence(case):
    advice = advise(_facts(case))

    assert not set(case["forbidden_anywhere"]) & set(_plan(advice))
    assert case["difficulty"] != "ambiguous" or advice.confidence.band != "high"
    assert set(case["must_warn"]) <= _codes(advice)


def test_without_inferred_facts_the_advice_is_never_unacceptable():
    for case in PUBLISHED:
        left_out = case["situation"]["inferred_facts"]
        kept = {name: value for name, value in case["situation"]["facts"].items() if name not in left_out}

        assert advise(parse(kept)).primary not in case["unacceptable"]


# Measured reports: the three situations of the embedded example


def _arm(name, **scores):
    rates = {score: Rate(value=value, low=value, high=value, n=80) for score, value in scores.items()}
    return Arm(name=name, scores=rates, prompt_tokens=10.0, seconds=1.0)


def _report(primary_score, *arms):
    return Report(
        run="r", model="m", primary=primary_score, held_out_rows=80, arms=arms, verdict="not_trained", versions={},
        machine={}, finished="2026-11-20T00:00:00Z",
    )  # fmt: skip


SAID = {"label_quality": "gold", "n_labelled": 400}
VOICE = _report(
    "style", *(_arm(name, exact=0.0, style=0.0, fact=1.0) for name in ("base", "prompt", "few_shot"))
)
EASY = _report("exact", _arm("base", exact=0.1), _arm("prompt", exact=1.0), _arm("few_shot", exact=1.0))
SHOTS = _report("exact", _arm("base", exact=0.1), _arm("prompt", exact=0.2), _arm("few_shot", exact=1.0))
CLOSED = (_arm(name, exact=0.05, fact=0.05) for name in ("base", "prompt", "few_shot"))
KNOWLEDGE = _report("fact", *CLOSED, _arm("context", exact=0.9, fact=0.98))


def test_right_content_in_the_wrong_style_is_read_as_style_not_as_knowledge():
    found = measured(VOICE)

    assert (found["lacks_knowledge"], found["lacks_style_format"]) == ("no", "yes")
    assert (found["prompt_success"], found["prompt_effort"], found["fewshot_gain"]) == (
        0.0,
        "optimised",
        "none",
    )


def test_the_voice_task_is_trained_although_no_prompt_ever_succeeds():
    said = {**SAID, "style_stable": "yes", "task_type": "style_generation"}
    advice = advise(parse({**measured(VOICE), **said}, "report"))

    assert (advice.primary, advice.classic_leaf) == ("sft_lora", "FT2")
    assert "T-8" in [step.edge for step in advice.path]


def test_the_same_rate_without_a_diagnosis_is_a_reason_to_rethink():
    advice = advise(parse({"prompt_success": 0.0, **SAID, "lacks_style_format": "yes"}))

    assert advice.primary == "rethink"


def test_the_easy_task_is_not_trained():
    assert advise(parse({**measured(EASY), **SAID}, "report")).primary == "prompt_engineering"


def test_where_only_examples_reach_the_target_the_advice_is_examples():
    assert advise(parse({**measured(SHOTS), **SAID}, "report")).primary == "few_shot"


def test_what_the_right_passage_mends_is_knowledge_and_is_looked_up():
    found = measured(KNOWLEDGE)
    said = {**SAID, "knowledge_change": "monthly", "retrieval_possible": "yes"}

    assert found["lacks_knowledge"] == "yes"
    assert advise(parse({**found, **said}, "report")).primary == "rag"


def test_a_report_on_loss_alone_says_nothing_about_success():
    assert measured(_report("nll", _arm("base", nll=2.0))) == {}


# Anything at all


def _values(fact):
    match fact.kind:
        case "yes_no":
            return st.sampled_from(["yes", "no", "unknown"])
        case "choice":
            return st.sampled_from(fact.choices)
        case "share":
            return st.floats(0, 1)
        case "count":
            return st.one_of(st.integers(0, 100), st.integers(0, 10**9))
        case "number":
            return st.floats(0, 1000)
        case "date":
            return st.dates().map(str)
        case "text":
            return st.text(min_size=1).filter(str.strip)


def _answers(given_facts):
    known = {name: parse({name: value}).get(name) for name, value in given_facts.items()}
    return Answers().but(**known)


anything = st.fixed_dictionaries({}, optional={name: _values(fact) for name, fact in FACTS.items()}).map(
    _answers
)


@settings(max_examples=150)
@given(anything)
def test_any_facts_get_a_complete_answer(answers):
    advice = advise(answers)

    assert advice.primary in LEAVES
    assert [stage.leaf for stage in advice.plan if stage.role == "primary"] == [advice.primary]
    assert len(_plan(advice)) == len(set(_plan(advice)))
    assert not set(_plan(advice)) & {one.leaf for one in advice.excluded}
    assert not set(_plan(advice)) & {one.leaf for one in advice.alternatives}
    assert 0 <= advice.confidence.value <= 1
    assert advice.path[-1].end == advice.primary
    assert all(code in ATTACHMENTS for stage in advice.plan for code in stage.attachments)
    json.dumps(asdict(advice), allow_nan=False)


@settings(max_examples=30)
@given(anything)
def test_equal_answers_get_equal_advice(answers):
    assert advise(answers) == advise(answers.but())


@settings(max_examples=60)
@given(anything)
def test_a_primary_leaf_is_never_struck_out_unless_nothing_stands(answers):
    leaf = primary(answers)

    assert leaf == "few_shot" or struck(leaf, answers) is None


@settings(max_examples=60)
@given(anything, st.sampled_from(sorted(FACTS)))
def test_a_fact_that_the_way_does_not_look_at_changes_no_leaf(answers, name):
    if name not in relevant(answers):
        for value, _ in FACTS[name].prior:
            assert primary(answers.but(**{name: value})) == primary(answers)


@settings(max_examples=40)
@given(anything)
def test_the_worlds_share_all_of_the_probability(answers):
    assert sum(world.mass for world in worlds(answers)) == pytest.approx(1)


@settings(max_examples=40)
@given(anything)
def test_every_flip_flips(answers):
    advice = advise(answers)

    for flip in advice.flips:
        value = flip.change.split()[-1] if flip.change[0] in "<>" else flip.change
        changed = parse({flip.fact: value}).get(flip.fact)
        if flip.change[0] not in "<>":
            assert primary(answers.but(**{flip.fact: changed})) == flip.primary != advice.primary
        else:
            assert flip.primary != advice.primary


def test_numbers_are_bisected_to_the_threshold():
    advice = advise(parse({"lacks_style_format": "yes", "lacks_knowledge": "no", "prompt_can_fix": "no",
                           "n_labelled": 800, "label_quality": "gold", "task_type": "translation"}))  # fmt: skip
    flip = next(flip for flip in advice.flips if flip.fact == "n_labelled")

    assert (advice.primary, flip.change, flip.primary) == ("few_shot", ">= 5000", "sft_lora")


# Doubt and questions


def test_with_only_a_card_the_decision_is_open_and_three_questions_are_named():
    advice = advise(parse({"vram_gb": 24}))

    assert (advice.open, advice.primary, advice.confidence.band) == (True, "few_shot", "low")
    assert [ask.fact for ask in advice.ask_next] == ["eval_set_size", "prompt_success", "lacks_knowledge"]


def test_no_test_set_keeps_the_confidence_low():
    known = {"prompt_success": 0.97, "target_success": 0.9, "prompt_effort": "few_shot"}

    assert advise(parse({**known, "eval_set_size": 5})).confidence.band == "low"
    assert advise(parse({**known, "eval_set_size": 5})).confidence.caps[0] == "only 5 test items"


def test_a_fully_measured_task_can_reach_high_confidence():
    advice = advise(
        parse({**measured(KNOWLEDGE), **SAID, "knowledge_change": "monthly", "retrieval_possible": "yes"})
    )

    assert advice.confidence.band == "high"


def test_ninety_percent_below_the_target_is_contested():
    advice = advise(parse({"prompt_success": 0.9, "target_success": 0.99, "lacks_style_format": "yes"}))

    assert "contested_rule_90_percent" in _codes(advice)
    assert advice.confidence.band != "high"


def test_assumed_steps_are_marked_and_their_facts_asked_first():
    advice = advise(parse({"lacks_style_format": "yes", "n_labelled": 800, "label_quality": "gold"}))
    step = next(step for step in advice.path if step.start == "Q1")

    assert (step.edge, step.assumed) == ("Q1-No", True)
    assert advice.ask_next[0].fact == "lacks_knowledge"


def test_struck_out_leaves_say_why_and_what_would_bring_them_back():
    advice = advise(
        parse({"lacks_style_format": "yes", "n_labelled": 800, "vram_gb": 24, "model_params_b": 7})
    )
    full = next(one for one in advice.excluded if one.leaf == "sft_full")

    assert (full.reason, full.relax) == ("needs about 116 GB, 24 GB stated", "LoRA on the same base")


def test_every_training_plan_has_a_baseline_a_held_out_split_and_a_stop_rule():
    for case in [*CONTRACT, *PUBLISHED]:
        advice = advise(_facts(case))
        if advice.primary in TRAINING_LEAVES:
            stage = next(stage for stage in advice.plan if stage.role == "primary")

            assert any(other.role == "baseline" for other in advice.plan)
            assert {"held_out_split", "baselines", "stop_rule", "retention_check"} <= set(stage.attachments)


@settings(max_examples=60)
@given(anything)
def test_where_nothing_is_asked_no_single_answer_can_change_the_leaf(answers):
    advice = advise(answers)
    if not advice.ask_next:
        for name in relevant(answers):
            if answers.get(name) is None:
                for value, _ in prior(name, answers):
                    changed = answers.but(**{name: value})
                    assert primary(changed) == advice.primary or not possible(answers.known(), name, value)


@settings(max_examples=60)
@given(anything)
def test_whatever_is_asked_is_unknown_and_its_group_is_asked_once(answers):
    asked = [ask.fact for ask in advise(answers).ask_next]

    assert all(answers.get(fact) is None for fact in asked)
    assert len({FACTS[fact].group for fact in asked}) == len(asked) <= 3


def test_where_everything_is_settled_nothing_is_asked():
    settled = {"lacks_knowledge": "no", "prompt_success": 1.0, "target_success": 0.9, "prompt_effort": "few_shot",
               "optimise_cost_latency": "no", "eval_set_size": 1000}  # fmt: skip

    assert advise(parse(settled)).ask_next == ()


def test_the_path_of_a_report_never_loses_to_what_was_said():
    said = {"prompt_success": 0.9, "target_success": 0.95, "lacks_knowledge": "no"}
    found = merge(parse(said), parse(measured(KNOWLEDGE), "report"))

    assert (found.prompt_success, found.lacks_knowledge) == (measured(KNOWLEDGE)["prompt_success"], True)
    assert found.origins["prompt_success"] == "report"
