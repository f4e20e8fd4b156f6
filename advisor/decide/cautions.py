"""The warnings: each with a code, the sentence, the rule that raised it, and when it is raised."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from advisor.decide import predicates as p
from advisor.decide.advice import Warned
from advisor.decide.answers import Answers
from advisor.decide.constraints import OPENAI_CLOSES
from advisor.decide.leaves import (
    ADAPTER_LEAVES,
    PREFERENCE_LEAVES,
    SFT_LEAVES,
    TRAINING_LEAVES,
    WEIGHT_LEAVES,
)
from advisor.decide.walk import Walk
from recipes.words import N_

CLOSING_SOON: Final = "2026-05-07"
"""From this day on the closing of OpenAI's tuning is announced, step by step until `OPENAI_CLOSES`."""
VERY_SMALL: Final = 100
LARGE_MODEL_B: Final = 60.0
LARGE_MODEL_GB: Final = 48.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a warning may look at: the answers, the way, the primary leaf and the leaves of the plan."""

    a: Answers
    walk: Walk
    primary: str
    plan: frozenset[str]

    def plans(self, *groups: frozenset[str]) -> bool:
        """Whether the plan holds a leaf of one of the groups."""
        return any(self.plan & group for group in groups)


@dataclass(frozen=True, slots=True)
class Caution:
    """One warning and when it is raised."""

    code: str
    message: str
    edge: str
    when: Callable[[Verdict], bool | None]


_SFT: Final = SFT_LEAVES | {"small_encoder"}
_KNOWLEDGE_TRAINED: Final = WEIGHT_LEAVES | {"rag_ft"}


def _facts_trained(v: Verdict) -> bool:
    return v.plans(WEIGHT_LEAVES) or bool(v.a.sft_tried and p.lacks_knowledge(v.a))


def _stale(v: Verdict) -> bool:
    changes = v.a.knowledge_change not in {None, "static"}
    return changes and (_facts_trained(v) or (bool(p.lacks_knowledge(v.a)) and v.plans(SFT_LEAVES)))


def _unknown_facts(v: Verdict) -> bool:
    return (
        v.a.train_unknown_fact_share == "high"
        or (bool(p.lacks_knowledge(v.a)) and bool(v.a.sft_tried))
        or (bool(v.a.lacks_knowledge) and v.plans(SFT_LEAVES))
    )


def _unsettled(v: Verdict) -> bool:
    rules_change = (
        bool(v.a.lacks_style_format) and bool(p.changes_often(v.a)) and v.a.task_type == "style_generation"
    )
    return v.a.style_stable is False or rules_change


def _considers_pretraining(v: Verdict) -> bool:
    """Whether raw text would be trained on: planned, or still open because nobody has counted the text of a far field."""
    if v.plans(WEIGHT_LEAVES):
        return True
    uncounted = v.a.unlabelled_tokens is None and bool(p.is_far(v.a)) and not p.locked(v.a)
    return bool(v.a.lacks_knowledge) and (uncounted or bool(v.a.unlabelled_tokens))


def _too_little_text(v: Verdict) -> bool:
    size = v.a.unlabelled_tokens or v.a.corpus_tokens
    return v.plans(WEIGHT_LEAVES) and size is not None and size < p.HUGE_TOKENS


def _low_rank(v: Verdict) -> bool:
    return v.plans(ADAPTER_LEAVES) and (v.a.n_labelled or 0) >= p.AMPLE


def _tight(v: Verdict) -> bool:
    have = p.memory_gb(v.a)
    if have is None or not v.plans(SFT_LEAVES):
        return False
    each = {"sft_full": p.FULL_BYTES, "sft_lora": p.LORA_BYTES, "multi_lora": p.LORA_BYTES}
    need = p.needed_gb(v.a.model_params_b, each.get(v.primary, p.QLORA_BYTES))
    large = (v.a.model_params_b or 0) >= LARGE_MODEL_B and have <= LARGE_MODEL_GB
    return large or need >= p.TIGHT_SHARE * have


def _provider(v: Verdict) -> bool:
    near = v.a.provider == "openai" and (v.a.date or "") >= CLOSING_SOON
    return (
        near
        or v.a.provider_ft_available is False
        or ("managed_ft" in v.plan and v.a.provider_ft_available is None)
    )


def _retrieval_unmeasured(v: Verdict) -> bool:
    chosen = v.plans(frozenset({"rag", "rag_ft"})) or bool(v.a.rag_tried)
    return chosen and v.a.retrieval_recall != "good"


def _weak(v: Verdict) -> bool:
    return any(step.edge.grade == "D" for step in v.walk.taken)


def _base_owned_by_others(v: Verdict) -> bool:
    return v.plans(ADAPTER_LEAVES, frozenset({"managed_ft"})) or "rag_ft" in v.plan


CAUTIONS: Final = (
    Caution("adapter_tied_to_base_version",
            N_("An adapter works only with the base version it was trained on."), "U-2", _base_owned_by_others),
    Caution("base_models_improve",
            N_("Heavy domain training may be overtaken by the next general model."), "N-2",
            lambda v: v.a.frontier_allowed and v.plans(WEIGHT_LEAVES, frozenset({"sft_full"}))),
    Caution("behaviour_not_stable",
            N_("The wanted behaviour still changes; weights would lock in the old one."), "S-0", _unsettled),
    Caution("contested_rule_90_percent",
            N_("About 90 % right and below the target: the sources disagree whether tuning pays."), "G-8",
            lambda v: p.nearly_there(v.a)),
    Caution("cpt_hurts_prompting",
            N_("Continued pre-training on raw text harms following prompts; mix in instruction data."), "N-2",
            lambda v: _considers_pretraining(v) and v.a.must_follow_prompts is not False),
    Caution("english_regression",
            N_("Adapting to another language may cost quality in the base language."), "A-4",
            lambda v: v.a.language_shift not in {None, "none"} and v.plans(TRAINING_LEAVES)),
    Caution("erasure_impossible_in_weights",
            N_("Data trained into weights cannot be deleted reliably."), "N-1b", lambda v: v.a.erasure_required),
    Caution("hallucination_from_unknown_facts",
            N_("Training on facts that the model does not know raises hallucination."), "N-4", _unknown_facts),
    Caution("knowledge_goes_stale",
            N_("Facts held in weights age; facts that change must come from context."), "Q2-Yes", _stale),
    Caution("lora_underperforms_at_cpt_scale",
            N_("Low-rank training learns less than full training at this amount of text."), "U-1",
            lambda v: v.plans(WEIGHT_LEAVES)),
    Caution("low_rank_learns_less",
            N_("A large instruction set needs all linear layers and a high rank."), "U-1", _low_rank),
    Caution("measure_retrieval_first",
            N_("Measure retrieval apart before judging the answers."), "R-5", _retrieval_unmeasured),
    Caution("provider_availability",
            N_("The provider's tuning service is closed, closing or unconfirmed."), "U-8", _provider),
    Caution("raw_corpus_too_small_for_cpt",
            N_("The raw text is too small for continued pre-training; it needs synthetic rewriting."), "N-3",
            _too_little_text),
    Caution("safety_critical_domain",
            N_("Errors can harm people: expert review and a conservative fallback are required."), "A-4",
            lambda v: v.a.cost_of_failure is not None and v.a.human_fallback is False),
    Caution("safety_regression",
            N_("Any tuning of an aligned model can weaken its safety behaviour; evaluate it."), "A-4",
            lambda v: v.a.starts_from_aligned is not False
            and v.plans(SFT_LEAVES, PREFERENCE_LEAVES, _KNOWLEDGE_TRAINED, frozenset({"distillation"}))),
    Caution("schema_valid_is_not_correct",
            N_("Constrained decoding guarantees syntax, not content."), "P-1", lambda v: "structured_output" in v.plan),
    Caution("small_eval_set",
            N_("The success rate rests on too few items."), "G-2", lambda v: p.few_test_items(v.a)),
    Caution("tight_memory_short_sequences",
            N_("It fits only with short sequences, batch 1 and memory-saving options."), "U-3", _tight),
    Caution("train_only_on_data_all_users_may_see",
            N_("Train only on content that every user of the model may see."), "R-3a",
            lambda v: v.a.per_user_access_control),
    Caution("very_small_dataset",
            N_("Very few examples: expect overfitting; keep few-shot prompting as the fallback."), "S-2b",
            lambda v: v.a.n_labelled is not None and 0 < v.a.n_labelled < VERY_SMALL
            and (v.plans(_SFT) or bool(v.a.lacks_style_format))),
    Caution("weak_evidence",
            N_("The evidence behind the verdict is weak or contradictory."), "G-8", _weak),
)  # fmt: skip


def cautions(verdict: Verdict) -> tuple[Warned, ...]:
    """Every warning that applies."""
    return tuple(Warned(c.code, c.message, c.edge) for c in CAUTIONS if c.when(verdict))


__all__ = ["CAUTIONS", "OPENAI_CLOSES", "Caution", "Verdict", "cautions"]
