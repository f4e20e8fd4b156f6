"""Two facts that change the advice only together: found where no single one reaches another family, bounded, the same each time."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.cli import main
from advisor.decide import pairs
from advisor.decide.advise import advise
from advisor.decide.answers import merge, parse
from advisor.decide.flips import flips
from advisor.decide.leaves import family
from advisor.decide.worlds import nearby, primary, read
from advisor.show.advice import text
from advisor.show.record import markdown
from advisor.text import language, use

WORKS = {"prompt_success": 1.0, "prompt_can_fix": "yes"}
"""The prompt does it: no single fact leads away from prompting."""


@pytest.fixture(autouse=True)
def english():
    before = language()
    use("en")
    yield
    use(before)


def told(pair):
    """The facts of a pair as somebody would state them."""
    return parse({flip.fact: flip.change.split()[-1] for flip in pair})


def test_where_the_prompt_works_two_facts_together_lead_to_training():
    advice = advise(parse(WORKS))
    said = [(*((flip.fact, flip.change) for flip in pair), pair[0].primary) for pair in advice.flip_pairs]

    assert {family(flip.primary) for flip in advice.flips} == {family(advice.primary)}
    assert (("cost_sensitive", "yes"), ("teacher_available", "yes_licensed"), "distillation") in said


def test_where_one_fact_is_enough_no_pair_is_looked_for(monkeypatch):
    monkeypatch.setattr(pairs, "_likeliest", None)
    advice = advise(parse({"lacks_style_format": "yes", "lacks_knowledge": "no", "n_labelled": 800}))

    assert any(family(flip.primary) != family(advice.primary) for flip in advice.flips)
    assert advice.flip_pairs == ()


def test_a_fact_whose_nearest_change_stays_in_the_family_is_looked_at_further_on():
    facts = {"prompt_success": 0.5, "target_success": 0.3, "prompt_can_fix": "yes", "lacks_knowledge": "no",
             "lacks_style_format": "no", "style_stable": "no"}  # fmt: skip
    advice = advise(parse(facts))
    flip = next(flip for flip in advice.flips if flip.fact == "prompt_success")

    assert (flip.change, family(flip.primary)) == ("<= 0.2", "before training")


@settings(max_examples=40)
@given(
    st.fixed_dictionaries(
        {"prompt_success": st.sampled_from((0.5, 0.98, 1.0)), "prompt_can_fix": st.just("yes")},
        optional={
            "target_success": st.sampled_from((0.0, 0.3, 0.9)),
            "lacks_style_format": st.sampled_from(("yes", "no")),
            "lacks_knowledge": st.just("no"),
            "n_tasks": st.sampled_from((1, 12)),
            "style_stable": st.just("no"),
            "requests_per_day": st.just("low"),
        },
    )
)
def test_every_pair_flips_the_family_and_neither_of_the_two_does_it_alone(facts):
    answers = parse(facts)
    advice = advise(answers)
    for pair in advice.flip_pairs:
        left = answers.but(**{flip.fact: None for flip in pair})
        together = merge(left, told(pair))

        assert primary(together) == pair[0].primary == pair[1].primary
        assert family(pair[0].primary) != family(advice.primary)
        for flip in pair:
            alone = answers.but(**{flip.fact: told(pair).get(flip.fact)})
            assert family(primary(alone)) == family(advice.primary)


def test_no_more_pairs_are_tried_than_the_bound_and_the_same_each_time(monkeypatch):
    tried = []
    monkeypatch.setattr(pairs, "_pair", lambda *pair: tried.append(pair[2:]))
    answers = parse(WORKS)
    leaf, looked_at = primary(answers), read(answers)
    single = flips(answers, leaf, looked_at, nearby(answers))
    found = [pairs.flip_pairs(answers, leaf, looked_at, single) for _ in range(2)]

    assert found == [(), ()]
    assert len(tried) == 2 * pairs.TRIED
    assert tried[: pairs.TRIED] == tried[pairs.TRIED :]


def test_a_pair_is_told_as_text_as_a_record_and_as_json(capsys, monkeypatch):
    answers = parse(WORKS)
    advice = advise(answers)
    monkeypatch.setenv("ADVISOR_LANG", "en")
    with pytest.raises(SystemExit) as ended:
        main(["recommend", *(f"--fact={name}={value}" for name, value in WORKS.items()), "--json"])
    data = json.loads(capsys.readouterr().out)["data"]

    assert "only together, cost_sensitive = yes and teacher_available = yes_licensed" in " ".join(
        text(advice).split()
    )
    assert "only together: `cost_sensitive = yes`, `teacher_available = yes_licensed`" in markdown(
        advice, answers, date="2026-11-20", version="1"
    )
    assert ended.value.code == 0
    assert data["flip_pairs"][0][0].keys() == {"fact", "change", "primary", "experiment"}
    assert data["flip_pairs"][0][0]["primary"] == data["flip_pairs"][0][1]["primary"]
