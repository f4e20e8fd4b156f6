"""The leaves: what each means, to which family it belongs and what its plan must contain."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from recipes.words import N_


@dataclass(frozen=True, slots=True)
class Leaf:
    """An answer of the advice; `attachments` are obligatory in any plan that holds it."""

    name: str
    family: str
    means: str
    attachments: tuple[str, ...]


ATTACHMENTS: Final = MappingProxyType(
    {
        "held_out_split": N_("set rows aside before training, by group"),
        "baselines": N_("measure the base model and a strong prompt on the same rows"),
        "retention_check": N_("check afterwards that other skills are still there"),
        "stop_rule": N_("say beforehand what would end the attempt"),
        "data_lint": N_("check the data set"),
        "licence_check": N_("may the base model be used, and the data trained on?"),
        "safety_evaluation": N_("compare refusals before and after"),
        "rag_baseline": N_("retrieval is the baseline to beat"),
        "facts_age": N_("trained-in facts age, cannot be deleted and cite no source"),
        "recall_at_k": N_(
            "measure retrieval apart from the answers: is the right passage among the first k?"
        ),
        "pass_rate_between": N_("the base pass rate must lie strictly between 0 and 1"),
        "reward_hacking_check": N_("read samples with a high reward"),
        "on_policy_pairs": N_("take preference pairs from the current model if possible"),
        "length_bias_check": N_("check that longer is not simply better"),
        "teacher_licence": N_("the teacher's licence must allow training on its answers"),
        "filter_outputs": N_("throw out wrong teacher answers"),
        "provider_check": N_("is the tuning service open, and until when does the base model live?"),
        "memory_limits": N_("state sequence length, batch and optimiser"),
        "pin_base_version": N_("pin the base version: an adapter dies with its base"),
        "regression_set": N_("a set of test items to run again whenever the model is updated"),
    }
)
"""What a plan must contain, by code; the sentence is a message id."""

DUTIES: Final = (
    "held_out_split",
    "baselines",
    "retention_check",
    "stop_rule",
    "data_lint",
    "licence_check",
)
"""What every training owes, whatever it trains."""
_SFT = (*DUTIES, "safety_evaluation")
_ADAPTER = (*_SFT, "pin_base_version")
_PROMPT = ("regression_set",)

_ALL: Final = (
    Leaf("prompt_engineering", "prompt", N_("Improve the prompt; train nothing."), _PROMPT),
    Leaf("few_shot", "prompt", N_("Put examples into the prompt; train nothing."), _PROMPT),
    Leaf("structured_output", "prompt", N_("Force the form while decoding: a schema, a grammar, a template."), _PROMPT),
    Leaf("rag", "context", N_("Look the facts up when answering (retrieval, lookup tools, SQL)."), ("recall_at_k",)),
    Leaf("long_context", "context", N_("Put the whole text into a long, cached prompt."), _PROMPT),
    Leaf("rag_ft", "context + tuning", N_("Keep retrieval, and tune the model on retrieval-style inputs."),
         (*_ADAPTER, "recall_at_k")),
    Leaf("cpt", "knowledge in weights", N_("Continue pre-training on the raw text."),
         (*DUTIES, "facts_age", "rag_baseline")),
    Leaf("cpt_sft", "knowledge in weights", N_("Continue pre-training, mixed with instruction data."),
         (*_SFT, "facts_age", "rag_baseline")),
    Leaf("sft_lora", "SFT", N_("Fine-tune on examples with LoRA (small matrices beside frozen 16-bit weights)."), _ADAPTER),
    Leaf("sft_qlora", "SFT", N_("Fine-tune on examples with QLoRA (LoRA on a base held in 4 bit)."),
         (*_ADAPTER, "memory_limits")),
    Leaf("sft_full", "SFT", N_("Fine-tune all parameters on examples."), _SFT),
    Leaf("sft_partial_freeze", "SFT", N_("Train only the last layers."), _SFT),
    Leaf("managed_ft", "SFT", N_("Let the provider fine-tune its model."), (*_SFT, "provider_check")),
    Leaf("small_encoder", "SFT", N_("Train a small classifier instead of a language model."), DUTIES),
    Leaf("prefix_tuning", "light PEFT", N_("Train a short prefix of vectors (prefix tuning)."), _ADAPTER),
    Leaf("p_tuning", "light PEFT", N_("Train virtual prompt tokens (P-tuning, prompt tuning)."), _ADAPTER),
    Leaf("adapters", "many tasks", N_("Train bottleneck adapters, one for each task."), _ADAPTER),
    Leaf("multi_lora", "many tasks", N_("Train one LoRA adapter for each task or customer, on one base."), _ADAPTER),
    Leaf("dpo", "preference", N_("Teach preferences from better/worse pairs (DPO)."),
         (*_SFT, "on_policy_pairs", "length_bias_check")),
    Leaf("kto", "preference", N_("Teach preferences from single ratings (KTO)."),
         (*_SFT, "on_policy_pairs", "length_bias_check")),
    Leaf("rlhf_ppo", "preference", N_("Train a reward model from rankings, then reinforce (RLHF)."), _SFT),
    Leaf("grpo_rlvr", "reinforcement", N_("Reinforce with answers that a program checks (GRPO)."),
         (*_SFT, "pass_rate_between", "reward_hacking_check")),
    Leaf("distillation", "distillation", N_("Train a smaller model on the answers of a stronger one."),
         (*_SFT, "teacher_licence", "filter_outputs")),
    Leaf("stronger_base", "before training", N_("Use a stronger or better suited base model."), ("licence_check",)),
    Leaf("rethink", "before training", N_("Rethink the task: split it, narrow it, or define it anew."), ()),
    Leaf("get_data", "before training", N_("Collect or clean data first."), ("data_lint",)),
    Leaf("build_eval", "before training", N_("Build a test set first."), ()),
)  # fmt: skip

LEAVES: Final = MappingProxyType({leaf.name: leaf for leaf in _ALL})
"""Every leaf by name."""

SFT_LEAVES: Final = frozenset(
    {"sft_lora", "sft_qlora", "sft_full", "sft_partial_freeze", "managed_ft", "multi_lora", "adapters", "prefix_tuning",
     "p_tuning"}
)  # fmt: skip
"""Ways to move the weights of a language model towards demonstrations."""
ADAPTER_LEAVES: Final = frozenset(
    {"sft_lora", "sft_qlora", "multi_lora", "adapters", "prefix_tuning", "p_tuning"}
)
WEIGHT_LEAVES: Final = frozenset({"cpt", "cpt_sft"})
"""Facts go into weights."""
PREFERENCE_LEAVES: Final = frozenset({"dpo", "kto", "rlhf_ppo"})
TRAINING_LEAVES: Final = frozenset(leaf.name for leaf in _ALL if "held_out_split" in leaf.attachments)
"""Something is trained."""
PROMPT_LEAVES: Final = frozenset(leaf.name for leaf in _ALL if leaf.family == "prompt")
CONTEXT_LEAVES: Final = frozenset({"rag", "long_context", "rag_ft"})


def family(leaf: str) -> str:
    """The family of a leaf: what robustness and flips compare."""
    return LEAVES[leaf].family
