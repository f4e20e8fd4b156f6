"""Hard constraints: which leaves cannot work here, why, and the cheapest change that readmits each."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from advisor.decide import predicates as p
from advisor.decide.advice import Excluded, Filled
from advisor.decide.answers import Answers
from recipes.words import N_

OPENAI_CLOSES: Final = "2027-01-06"
"""Tuning closes for everyone on that day (OpenAI, fine-tuning platform notice)."""

Strike = Callable[[Answers], tuple[str, str] | None]
"""None where the leaf may stand, else the reason and the relaxation."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """One way in which some leaves can be impossible."""

    leaves: tuple[str, ...]
    strike: Strike


def _memory(bytes_each: float, relax: str) -> Strike:
    def strike(a: Answers) -> tuple[str, str] | None:
        have = p.memory_gb(a)
        need = p.needed_gb(a.model_params_b, bytes_each)
        if have is None or need <= have:
            return None
        said = Filled(N_("needs about {need} GB, {have} GB stated"), need=f"{need:.0f}", have=f"{have:g}")
        return said, relax

    return strike


def _provider(a: Answers) -> tuple[str, str] | None:
    if not p.managed_allowed(a):
        return N_("the data may not go to a provider"), N_("allow a provider, or train open weights yourself")
    if a.provider_ft_available is False:
        return N_("the provider's tuning is not open to you"), N_("another provider, or open weights")
    if a.provider == "openai" and a.date is not None and a.date >= OPENAI_CLOSES:
        return N_("this provider's tuning has closed"), N_("another provider, or open weights")
    return None


def _teacher(a: Answers) -> tuple[str, str] | None:
    if a.teacher_available == "yes_restricted":
        return N_("the teacher's licence forbids training on its answers"), N_("an open teacher model")
    if a.teacher_available == "no":
        return N_("no stronger model does it well"), N_("find a teacher, or write examples yourself")
    return None


def _weights(a: Answers) -> tuple[str, str] | None:
    if a.per_user_access_control:
        return N_("users have different rights, and weights know no rights"), N_(
            "train only on what everybody may see"
        )
    if a.erasure_required:
        return N_("facts must be deletable, and weights forget nothing on demand"), N_(
            "keep the facts in an index"
        )
    if a.needs_citations:
        return N_("answers must show sources, and weights have none"), N_("keep the facts in an index")
    return None


def _retrieval(a: Answers) -> tuple[str, str] | None:
    if a.retrieval_possible is False:
        return N_("nothing can be retrieved when answering"), N_("a local index on the device")
    return None


def _window(a: Answers) -> tuple[str, str] | None:
    if p.fits_the_window(a) is False:
        return N_("the text does not fit into the context"), N_("a longer context, or less text")
    return None


def _checker(a: Answers) -> tuple[str, str] | None:
    if a.pass_at_k == 0:
        return N_("no sample ever succeeds, so there is nothing to reward"), N_(
            "an easier task or a stronger base"
        )
    if a.verifier is not None and a.verifier != "programmatic":
        return N_("no program can check the answers"), N_("write a checker")
    return None


def _pairs(a: Answers) -> tuple[str, str] | None:
    if a.n_pref_pairs == 0:
        return N_("there are no better/worse pairs"), N_("collect about 1,000 pairs")
    return None


def _ratings(a: Answers) -> tuple[str, str] | None:
    if a.n_unpaired_feedback == 0:
        return N_("there are no ratings"), N_("collect about 2,000 ratings")
    return None


def _demonstrations(a: Answers) -> tuple[str, str] | None:
    if a.n_labelled == 0 and not a.n_pref_pairs:
        least = p.minimum_examples(a.task_type, a.lacks_style_format, a.label_quality, a.fewshot_gain)
        return N_("there are no examples to learn from"), Filled(N_("write {least} examples"), least=least)
    return None


def _stronger(a: Answers) -> tuple[str, str] | None:
    if a.frontier_allowed is False and a.model_strength == "strong":
        return N_("the strongest allowed model is in use"), N_("allow a stronger model")
    return None


_SFT = ("sft_lora", "sft_qlora", "sft_full", "sft_partial_freeze", "managed_ft", "small_encoder", "multi_lora",
        "adapters", "prefix_tuning", "p_tuning")  # fmt: skip

CONSTRAINTS: Final = (
    Constraint(("sft_full",), _memory(p.FULL_BYTES, N_("LoRA on the same base"))),
    Constraint(("sft_lora",), _memory(p.LORA_BYTES, N_("a base held in 4 bit (QLoRA)"))),
    Constraint(("managed_ft",), _provider),
    Constraint(("distillation",), _teacher),
    Constraint(("cpt", "cpt_sft"), _weights),
    Constraint(("rag", "rag_ft"), _retrieval),
    Constraint(("long_context",), _window),
    Constraint(("grpo_rlvr",), _checker),
    Constraint(("dpo", "rlhf_ppo"), _pairs),
    Constraint(("kto",), _ratings),
    Constraint(_SFT, _demonstrations),
    Constraint(("stronger_base",), _stronger),
)

_BY_LEAF: Final = MappingProxyType(
    {leaf: tuple(c.strike for c in CONSTRAINTS if leaf in c.leaves) for c in CONSTRAINTS for leaf in c.leaves}
)

FALLBACKS: Final = MappingProxyType(
    {
        "sft_full": ("sft_lora", "sft_qlora", "few_shot"),
        "sft_lora": ("sft_qlora", "few_shot"),
        "sft_qlora": ("few_shot",),
        "managed_ft": ("sft_lora", "sft_qlora", "few_shot"),
        "distillation": ("get_data",),
        "cpt_sft": ("rag", "rethink"),
        "cpt": ("rag", "rethink"),
        "rag": ("long_context", "rethink"),
        "rag_ft": ("rethink",),
        "long_context": ("rag", "rethink"),
        "grpo_rlvr": ("stronger_base", "rethink"),
        "stronger_base": ("rethink",),
    }
)
"""What to do instead of a leaf that is struck out, best first; where none is named, prompting."""
LAST_RESORT: Final = "few_shot"


def struck(leaf: str, a: Answers) -> tuple[str, str] | None:
    """Why `leaf` cannot work here and what would readmit it, or None."""
    return next((why for strike in _BY_LEAF.get(leaf, ()) if (why := strike(a))), None)


def standing(leaf: str, a: Answers) -> str:
    """`leaf`, or the best that stands where it is struck out."""
    if struck(leaf, a) is None:
        return leaf
    return next((other for other in FALLBACKS.get(leaf, ()) if struck(other, a) is None), LAST_RESORT)


def excluded(a: Answers) -> tuple[Excluded, ...]:
    """Every leaf that is struck out."""
    return tuple(Excluded(leaf, *why) for leaf in _BY_LEAF if (why := struck(leaf, a)))
