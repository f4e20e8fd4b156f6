"""The second opinion: an additive score per leaf, independent of the walk, in log-odds units."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from advisor.decide import predicates as p
from advisor.decide.advice import Contested
from advisor.decide.answers import Answers
from advisor.decide.leaves import LEAVES, family
from advisor.decide.predicates import Test
from advisor.decide.tree import Grade

WORTH: Final[Mapping[Grade, float]] = MappingProxyType({"A": 1.0, "B": 0.85, "C": 0.65, "D": 0.45})
"""How much a reason counts by the grade of its evidence."""
MARGIN: Final = 1.0
"""Log-odds units by which the walk's family must lead to count as agreement."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One fact that speaks for some leaves and against others: log-odds weights, times the worth of the grade."""

    test: Test
    weights: Mapping[str, float]
    grade: Grade


def _is(fact: str, *values: object) -> Test:
    def test(a: Answers) -> bool | None:
        value = getattr(a, fact)
        return None if value is None else value in values

    return test


def _at_least(fact: str, least: float) -> Test:
    def test(a: Answers) -> bool | None:
        value = getattr(a, fact)
        return None if value is None else value >= least

    return test


_SFT: Final = ("sft_lora", "sft_qlora", "sft_full", "managed_ft")


def _each(weight: float, *leaves: str) -> dict[str, float]:
    return dict.fromkeys(leaves, weight)


REASONS: Final = (
    Reason(p.always, {"prompt_engineering": 1.0, "few_shot": 1.2, "sft_lora": 0.4}, "B"),
    Reason(p.lacks_knowledge, {"rag": 4.0, "long_context": 1.5, "rag_ft": 1.0, **_each(-2.0, *_SFT)}, "A"),
    Reason(p.no(p.lacks_knowledge), _each(-3.0, "rag", "long_context", "rag_ft", "cpt", "cpt_sft"), "B"),
    Reason(p.changes_often, {"rag": 1.0, **_each(-3.0, "cpt", "cpt_sft")}, "A"),
    Reason(p.huge_and_able, {"cpt_sft": 3.5, "cpt": 1.0, "long_context": -3.0}, "D"),
    Reason(p.field_cannot_be_looked_up, {"cpt_sft": 4.0, "rag": -1.0}, "B"),
    Reason(p.locked, {"rag": 1.0, **_each(-4.0, "cpt", "cpt_sft")}, "B"),
    Reason(p.window_is_best, {"long_context": 3.5}, "B"),
    Reason(p.generator_fails, {"rag_ft": 4.0, "stronger_base": 1.0}, "B"),
    Reason(p.lacks_style, {**_each(1.5, *_SFT), "few_shot": 1.0}, "B"),
    Reason(p.prompt_is_enough, {"few_shot": 4.0, "prompt_engineering": 4.0, **_each(-3.0, *_SFT)}, "C"),
    Reason(p.no(p.prompt_fixes_it), {**_each(1.5, *_SFT), **_each(-1.5, "few_shot", "prompt_engineering")}, "C"),
    Reason(p.rarely_right, {"rethink": 3.0, "stronger_base": 2.0, **_each(-1.0, *_SFT)}, "C"),
    Reason(p.only_style_fails, {**_each(3.0, *_SFT), "rethink": -3.0}, "B"),
    Reason(p.may_have_demonstrations, {**_each(2.0, *_SFT), "multi_lora": 1.0, "small_encoder": 0.5}, "A"),
    Reason(p.too_few, {"few_shot": 1.5, "get_data": 1.0, **_each(-2.0, *_SFT)}, "B"),
    Reason(p.labels_are_noisy, {"get_data": 3.0, **_each(-1.5, *_SFT)}, "B"),
    Reason(p.is_classification, {"small_encoder": 3.0, **_each(0.5, *_SFT)}, "A"),
    Reason(p.serves_many, {"multi_lora": 2.5, "adapters": 2.0, "prefix_tuning": 0.8, "p_tuning": 0.6}, "A"),
    Reason(p.is_unsettled, {**_each(-2.5, *_SFT), "few_shot": 2.0, "prompt_engineering": 2.0}, "C"),
    Reason(p.instructions_differ, {"prompt_engineering": 3.0, **_each(-1.5, *_SFT)}, "D"),
    Reason(p.form_can_be_forced, {"structured_output": 2.5}, "B"),
    Reason(p.wants_safety, {"dpo": 2.0, "rlhf_ppo": 1.5, "kto": 1.0, "get_data": 1.0}, "B"),
    Reason(p.has_pairs, {"dpo": 4.5}, "B"),
    Reason(p.has_unpaired, {"kto": 4.5}, "B"),
    Reason(p.reward_model_pays, {"rlhf_ppo": 3.0}, "B"),
    Reason(p.can_be_reinforced, {"grpo_rlvr": 4.5}, "B"),
    Reason(p.is_verifiable_skill, {"grpo_rlvr": 1.0}, "B"),
    Reason(p.never_right, {"grpo_rlvr": -6.0, "stronger_base": 3.0, "distillation": 1.5}, "B"),
    Reason(p.wants_cheaper, {"distillation": 1.5, "small_encoder": 1.0, **_each(0.8, *_SFT)}, "B"),
    Reason(p.has_teacher, {"distillation": 1.0}, "B"),
    Reason(p.small_student_with_teacher, {"distillation": 3.5}, "B"),
    Reason(p.ample_far_and_fits, {"sft_full": 2.0}, "A"),
    Reason(p.lora_does_not_fit, {"sft_qlora": 2.0}, "A"),
    Reason(p.provider_trains, {"managed_ft": 2.0}, "B"),
    Reason(_is("team_skill", "none", "api"), {**_each(-1.0, "sft_full", "grpo_rlvr", "rlhf_ppo", "cpt_sft")}, "C"),
    Reason(_is("retrieval_possible", False), _each(-6.0, "rag", "rag_ft"), "A"),
    Reason(_at_least("student_success", p.SOLVED), {"prompt_engineering": 3.0, "grpo_rlvr": -4.0}, "C"),
)  # fmt: skip


def scores(a: Answers) -> dict[str, float]:
    """The log-odds score of every leaf."""
    total = dict.fromkeys(LEAVES, 0.0)
    for reason in REASONS:
        if reason.test(a):
            for leaf, weight in reason.weights.items():
                total[leaf] += weight * WORTH[reason.grade]
    return total


def agreement(leaf: str, score: Mapping[str, float]) -> float:
    """1 where walk and score agree on the family, 0.7 where the margin is small, 0.5 where they disagree."""
    ours, _, best = _compared(leaf, score)
    if ours >= best + MARGIN:
        return 1.0
    return 0.7 if ours > best - MARGIN else 0.5


def second_opinion(leaf: str, score: Mapping[str, float]) -> Contested | None:
    """What the score prefers by a clear margin to the family of `leaf`, or None where it does not disagree."""
    ours, other, best = _compared(leaf, score)
    return Contested(other, round(best, 2), round(ours, 2)) if ours <= best - MARGIN else None


def _compared(leaf: str, score: Mapping[str, float]) -> tuple[float, str, float]:
    """The best score of the family of `leaf`; the best leaf of all others, and its score."""
    home = family(leaf)
    ours = max(value for other, value in score.items() if family(other) == home)
    rival = max((other for other in score if family(other) != home), key=lambda other: score[other])
    return ours, rival, score[rival]
