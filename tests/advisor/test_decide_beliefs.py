"""What known facts say about unknown ones: beliefs, doubts, and the readings that move the walk (docs/adr/0005, 0006)."""

import pytest

from advisor.decide import predicates as p
from advisor.decide.advise import advise
from advisor.decide.answers import FACTS, Answers, parse
from advisor.decide.beliefs import BELIEFS, prior
from advisor.decide.doubts import DOUBTS, doubts
from advisor.decide.leaves import LEAVES
from advisor.decide.worlds import read, relevant

STYLE = {"lacks_style_format": "yes", "lacks_knowledge": "no", "prompt_can_fix": "no"}
SETTLED = {
    **STYLE, "prompt_success": 0.6, "target_success": 0.9, "prompt_effort": "optimised", "eval_set_size": 200,
    "n_labelled": 3000, "label_quality": "gold", "label_agreement": "high", "style_stable": "yes", "iteration": "days",
    "task_type": "dialogue_task", "output_strictness": "free", "needs_safety_alignment": "no", "n_pref_pairs": 0,
    "n_unpaired_feedback": 0, "optimise_cost_latency": "no", "per_request_instructions": "no", "verifier": "none",
    "lacks_skill": "no", "n_tasks": 1, "vram_gb": 48, "gpus": 1, "model_params_b": 8, "privacy": "on_prem",
}  # fmt: skip


def _chance(fact, value, **known):
    return dict(prior(fact, parse(known)))[value]


@pytest.mark.parametrize("belief", BELIEFS, ids=lambda belief: f"{belief.fact} {belief.when.__name__}")
def test_a_belief_is_about_a_fact_sums_to_one_and_stays_inside_its_domain(belief):
    assert sum(weight for _, weight in belief.prior) == pytest.approx(1)
    assert all(parse({belief.fact: value}).get(belief.fact) is not None for value, _ in belief.prior)
    assert FACTS[belief.fact].prior


def test_where_nothing_is_known_the_priors_count():
    assert all(prior(name, Answers()) == fact.prior for name, fact in FACTS.items())


@pytest.mark.parametrize(
    ("fact", "value", "known"),
    [
        ("lacks_knowledge", False, {"lacks_style_format": "yes"}),
        ("lacks_knowledge", True, {"task_type": "qa_over_docs"}),
        ("prompt_success", 0.97, {"optimise_cost_latency": "yes"}),
        ("prompt_success", 0.6, {"lacks_skill": "yes"}),
        ("verifier", "programmatic", {"task_type": "reasoning_verifiable"}),
        ("label_agreement", "high", {"label_quality": "gold"}),
        ("pass_at_k", 0.7, {"student_success": 0.4}),
    ],
)
def test_what_is_known_makes_its_companion_likelier(fact, value, known):
    assert _chance(fact, value, **known) > dict(FACTS[fact].prior).get(value, 0.0)


def test_whoever_names_the_form_as_the_problem_is_surer_than_whoever_names_nothing():
    named = advise(parse({"n_labelled": 3000, "label_quality": "gold", "lacks_style_format": "yes"}))
    unnamed = advise(parse({"n_labelled": 3000, "label_quality": "gold"}))

    assert (named.primary, unnamed.primary) == ("sft_lora", "sft_lora")
    assert named.confidence.R > unnamed.confidence.R


# Doubts


def test_a_training_with_all_decisive_facts_known_can_be_highly_confident():
    advice = advise(parse(SETTLED))

    assert (advice.primary, advice.confidence.band, advice.confidence.caps) == ("sft_lora", "high", ())


DOUBTFUL = [
    ({"eval_set_size": 30}, "fewer than 50 items"),
    ({"prompt_success": 0.86}, "close to the target"),
    ({"lacks_knowledge": "yes"}, "both missing"),
    ({"n_labelled": 400, "task_type": "style_generation"}, "50 to 500 examples"),
    ({"verifier": "llm_judge"}, "another model"),
    ({"vram_gb": 20}, "within a tenth"),
    ({"domain_shift": "moderate"}, "moderately far"),
    ({"cost_of_failure": "a life", "human_fallback": "no"}, "nobody can take over"),
]


@pytest.mark.parametrize(("change", "says"), DOUBTFUL, ids=[says for _, says in DOUBTFUL])
def test_each_doubt_keeps_the_same_advice_from_being_highly_confident(change, says):
    advice = advise(parse({**SETTLED, **change}))

    assert advice.confidence.band != "high"
    assert any(says in cap for cap in advice.confidence.caps)


KNOWLEDGE = {"lacks_knowledge": "yes", "retrieval_possible": "yes"}
ELSEWHERE = [
    ("rag", {**KNOWLEDGE, "knowledge_change": "yearly"}, "once a year"),
    ("rag", {**KNOWLEDGE, "corpus_tokens": 50_000_000}, "10 million tokens"),
    ("rag", {**KNOWLEDGE, "corpus_tokens": 100_000, "context_window": 128_000}, "context window"),
    ("rag", {**KNOWLEDGE, "domain_shift": "large"}, "nobody has counted its text"),
    ("rag", {**KNOWLEDGE, "privacy": "offline_device"}, "runs on the device"),
    ("managed_ft", {"provider": "openai"}, "near its end"),
    ("stronger_base", {"student_success": 0.1}, "only the small model"),
]


@pytest.mark.parametrize(("leaf", "facts", "says"), ELSEWHERE, ids=[says for _, _, says in ELSEWHERE])
def test_the_other_doubts_hold_where_they_should(leaf, facts, says):
    assert any(says in found for found in doubts(parse(facts), leaf))


def test_every_doubt_has_a_test_above():
    shown = {says for _, says in DOUBTFUL} | {says for _, _, says in ELSEWHERE}

    assert all(any(part in doubt.says for part in shown) for doubt in DOUBTS)


def test_where_nothing_is_known_no_situation_is_doubtful():
    assert not [says for leaf in LEAVES if leaf != "managed_ft" for says in doubts(Answers(), leaf)]


def test_an_unknown_fact_that_can_change_nothing_here_caps_nothing():
    advice = advise(parse({"lacks_knowledge": "yes", "needs_citations": "yes", "retrieval_possible": "yes"}))

    assert (advice.primary, advice.confidence.caps) == ("rag", ())


# What moves the walk


@pytest.mark.parametrize(
    "known",
    [
        {"task_type": "qa_over_docs"},
        {"knowledge_change": "daily"},
        {"per_user_access_control": "yes"},
        {"corpus_tokens": 50_000},
        {"domain_shift": "large", "unlabelled_tokens": 10**9, "team_skill": "distributed"},
    ],
    ids=lambda known: next(iter(known)),
)
def test_facts_that_stand_elsewhere_are_missing_facts_but_only_as_an_assumption(known):
    advice = advise(parse(known))
    step = next(step for step in advice.path if step.start == "Q1")

    assert (step.edge, step.assumed, advice.classic_leaf) == ("Q1-Yes", True, None)
    assert advise(parse({**known, "lacks_knowledge": "no"})).primary not in {"rag", "cpt_sft"}


def test_what_is_only_taken_notice_of_is_never_wondered_about():
    nothing = Answers()

    assert not {"corpus_tokens", "knowledge_change", "unlabelled_tokens"} & set(read(nothing))
    assert {"corpus_tokens", "knowledge_change", "unlabelled_tokens"} <= relevant(nothing)


def test_examples_that_state_unknown_facts_mean_that_facts_are_missing():
    assert p.lacks_knowledge(parse({"train_unknown_fact_share": "high"})) is True


def test_a_task_that_is_named_after_its_form_has_one():
    known = {"task_type": "structured_output", "lacks_style_format": "yes", "prompt_success": 0.4, "prompt_effort": "few_shot"}  # fmt: skip

    assert advise(parse(known)).primary == "structured_output"
    assert advise(parse({**known, "output_strictness": "free"})).primary != "structured_output"


def test_a_few_items_and_a_worked_out_prompt_are_counted_before_items_are_collected():
    counted = advise(parse({"eval_set_size": 10, "prompt_effort": "optimised"}))

    assert [stage.leaf for stage in counted.plan] == ["build_eval", "prompt_engineering"]
    assert advise(parse({"eval_set_size": 0, "prompt_effort": "optimised"})).primary == "build_eval"
    assert advise(parse({"eval_set_size": 10})).primary == "build_eval"


def test_labels_that_nobody_has_counted_are_enough_where_that_is_nothing_unusual():
    def uncounted(task):
        return p.may_have_demonstrations(parse({"label_quality": "gold", "task_type": task}))

    assert uncounted("classification") is True
    assert uncounted("translation") is False
    assert p.may_have_demonstrations(
        parse({"label_quality": "gold", "n_labelled": 6000, "task_type": "translation"})
    )


def test_uncounted_demonstrations_of_a_skill_wait_until_the_prompt_was_worked_on():
    known = {
        "lacks_skill": "yes",
        "lacks_knowledge": "no",
        "label_quality": "gold",
        "task_type": "qa_given_context",
    }

    assert advise(parse(known)).primary == "sft_lora"
    assert advise(parse({**known, "prompt_effort": "zero_shot"})).primary == "prompt_engineering"


WINDOW = {
    "lacks_knowledge": "yes", "context_window": 1_000_000, "model_strength": "strong", "cost_sensitive": "no",
    "latency": "none",
}  # fmt: skip


@pytest.mark.parametrize(
    "objection",
    [
        {},
        {"cost_sensitive": "yes"},
        {"latency": "tight"},
        {"model_strength": "weak"},
        {"knowledge_change": "daily"},
        {"needs_citations": "yes"},
        {"context_window": 128_000},
        {"corpus": "huge"},
        {"requests_per_day": "high"},
        {"corpus_tokens": 10**8},
    ],
    ids=lambda found: next(iter(found), "none"),
)
def test_an_uncounted_text_goes_into_a_very_large_window_where_nothing_speaks_against_it(objection):
    leaf = advise(parse({**WINDOW, **objection})).primary

    assert leaf == ("rag" if objection else "long_context")


@pytest.mark.parametrize(
    ("size", "strength", "leaf"),
    [(7, None, "rag"), (70, None, "long_context"), (7, "strong", "long_context")],
)
def test_a_small_model_reads_a_long_context_weakly_until_somebody_says_otherwise(size, strength, leaf):
    known = {
        "lacks_knowledge": "yes",
        "corpus_tokens": 50_000,
        "context_window": 128_000,
        "model_params_b": size,
        "model_strength": strength,
    }

    assert advise(parse(known)).primary == leaf


def test_a_tight_time_limit_alone_does_not_say_that_price_is_no_problem():
    assert p.wants_cheaper(parse({"latency": "tight"})) is None
    assert p.wants_cheaper(parse({"latency": "tight", "requests_per_day": "high"})) is True
    assert p.wants_cheaper(parse({"latency": "none", "cost_sensitive": "no"})) is False
