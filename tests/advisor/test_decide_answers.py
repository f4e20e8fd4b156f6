"""The vocabulary: what it accepts, what it refuses, and that unknown is not no."""

import pytest

from advisor.decide.answers import FACTS, Answers, FactsError, merge, parse, vocabulary
from advisor.decide.asking import OTHERS
from advisor.decide.groups import GROUPS
from advisor.decide.questions import BY_FACT, QUESTIONS, next_question
from advisor.errors import BadValue, UnknownName


def test_the_facts_and_the_fields_of_the_answers_are_the_same():
    assert set(vocabulary()) == set(FACTS)


def test_every_prior_sums_to_one_and_stays_inside_its_domain():
    for fact in FACTS.values():
        if fact.prior:
            assert sum(weight for _, weight in fact.prior) == pytest.approx(1)
            assert all(parse({fact.name: value}).get(fact.name) is not None for value, _ in fact.prior)


def test_an_absent_and_an_unknown_fact_are_both_none():
    assert parse({"lacks_knowledge": "unknown", "n_labelled": None}) == Answers()


@pytest.mark.parametrize("word", ["yes", "Yes", " true ", True])
def test_yes_is_understood_however_it_is_written(word):
    assert parse({"lacks_knowledge": word}).lacks_knowledge is True


def test_a_misspelt_fact_is_named_with_the_nearest_one():
    with pytest.raises(UnknownName, match="n_labeled") as caught:
        parse({"n_labeled": 3})

    assert "n_labelled" in caught.value.values["near"]


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("privacy", "clod"), ("privacy", 3), ("prompt_success", 1.2), ("prompt_success", "nan"), ("n_labelled", -1),
        ("n_labelled", 2.5), ("n_labelled", 10**400), ("n_labelled", True), ("vram_gb", "inf"), ("date", "tomorrow"),
        ("lacks_knowledge", "maybe"), ("lacks_knowledge", 1), ("cost_of_failure", ["x"]), ("vram_gb", {}),
    ],
)  # fmt: skip
def test_a_value_outside_its_domain_is_named_with_the_allowed_ones(fact, value):
    with pytest.raises(BadValue) as caught:
        parse({fact: value})

    assert caught.value.values["allowed"] == FACTS[fact].allowed


@pytest.mark.parametrize(
    "facts",
    [
        {"n_labelled": 0, "label_quality": "gold"},
        {"retrieval_possible": "no", "retrieval_in_place": "yes"},
        {"student_success": 0.9, "pass_at_k": 0.1},
        {"gpus": 0, "vram_gb": 24},
    ],
)
def test_facts_that_contradict_each_other_are_named_both(facts):
    with pytest.raises(BadValue) as caught:
        parse(facts)

    assert all(fact in str(caught.value) for fact in facts)


def test_all_problems_are_named_at_once():
    with pytest.raises(FactsError) as caught:
        parse({"nonsense": 1, "privacy": "{x}", "n_labelled": 0, "label_quality": "gold"})

    assert len(caught.value.problems) == 3
    assert "{x}" in str(caught.value)


def test_later_answers_win_and_keep_where_they_came_from():
    both = merge(parse({"n_labelled": 5, "n_tasks": 2}, "flag"), parse({"n_labelled": 800}, "data"))

    assert (both.n_labelled, both.n_tasks) == (800, 2)
    assert both.origins == {"n_labelled": "data", "n_tasks": "flag"}


def test_parts_that_agree_each_but_contradict_together_are_refused():
    with pytest.raises(BadValue):
        merge(parse({"label_quality": "gold"}), parse({"n_labelled": 0}))


def test_every_choice_of_every_question_is_in_the_vocabulary():
    for question in QUESTIONS:
        assert [parse({question.fact: choice.value}) for choice in question.choices]


def test_the_first_question_is_the_first_of_the_source_tree():
    assert next_question(parse({})).fact == "lacks_knowledge"


def test_a_question_that_was_asked_is_not_asked_again():
    assert next_question(parse({}), asked=("lacks_knowledge",)).fact != "lacks_knowledge"


def test_nobody_is_asked_for_the_quality_of_labels_that_do_not_exist():
    answers, asked = parse({"lacks_knowledge": "no", "lacks_style_format": "yes", "n_labelled": 0}), []
    while question := next_question(answers, asked):
        asked.append(question.fact)

    assert asked
    assert not {"label_quality", "label_agreement"} & set(asked)


def walked(**said):
    """The facts asked for on a way where only these are known, in that order."""
    asked = []
    while question := next_question(parse({fact: said.get(fact, "unknown") for fact in asked}), asked):
        asked.append(question.fact)
    return asked


def test_whoever_is_not_sure_that_facts_are_missing_is_not_asked_about_these_facts():
    asked = walked()

    assert asked[:2] == ["lacks_knowledge", "lacks_style_format"]
    assert not {"knowledge_change", "corpus", "needs_citations", "retrieval_possible"} & set(asked)


def test_whoever_has_all_facts_is_not_asked_how_they_change():
    assert not {"knowledge_change", "corpus", "needs_citations"} & set(walked(lacks_knowledge="no"))


def test_how_facts_change_is_asked_where_facts_are_missing():
    assert walked(lacks_knowledge="yes")[1] == "knowledge_change"


def test_tries_are_counted_only_where_a_program_may_judge_them():
    assert "pass_at_k" not in walked()
    assert "pass_at_k" in walked(
        lacks_knowledge="no",
        lacks_style_format="no",
        prompt_can_fix="no",
        lacks_skill="yes",
        verifier="programmatic",
    )


def test_every_fact_that_may_be_asked_for_has_a_question():
    may_be_asked = {fact.name for fact in FACTS.values() if fact.prior}

    assert may_be_asked <= BY_FACT.keys() | OTHERS.keys()
    assert not BY_FACT.keys() & OTHERS.keys()


def test_the_questions_stop_when_no_answer_can_change_the_leaf():
    settled = parse(
        {
            "prompt_success": 0.97,
            "target_success": 0.9,
            "optimise_cost_latency": "no",
            "prompt_effort": "few_shot",
        }
    )

    assert next_question(settled) is None


def test_every_group_of_facts_has_a_question_and_no_group_is_without_facts():
    assert GROUPS.keys() == {fact.group for fact in FACTS.values()}
