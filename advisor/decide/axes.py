"""The four independent choices behind a plan: what stands in the context, what is learned, what moves, where it runs."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from advisor.decide import predicates as p
from advisor.decide import walk
from advisor.decide.advice import Axes, Stage
from advisor.decide.answers import Answers
from advisor.decide.constraints import standing
from advisor.decide.leaves import TRAINING_LEAVES
from recipes.words import N_

CONTEXT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "prompt": N_("the prompt alone"),
        "examples": N_("examples in the prompt"),
        "retrieval": N_("what retrieval finds"),
        "whole_text": N_("the whole text, cached"),
    }
)
OBJECTIVE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "none": N_("nothing is trained"),
        "imitation": N_("imitate examples"),
        "domain_text": N_("continue pre-training on domain text"),
        "preference": N_("prefer the better answer"),
        "reward": N_("earn rewards that a program gives"),
        "teacher": N_("imitate a stronger model"),
    }
)
UPDATE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "none": N_("no weights move"),
        "lora": N_("LoRA on 16-bit weights"),
        "qlora": N_("LoRA on 4-bit weights"),
        "full": N_("all weights"),
        "last_layers": N_("the last layers"),
        "many_lora": N_("one LoRA for each task or customer"),
        "bottleneck": N_("bottleneck adapters"),
        "soft_prompt": N_("virtual tokens"),
        "encoder": N_("a small encoder as a whole"),
        "provider": N_("what the provider moves"),
    }
)
RUNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "anywhere": N_("not decided yet"),
        "provider": N_("at a provider"),
        "own_cloud": N_("in your own cloud account"),
        "own_machines": N_("on your own machines"),
        "device": N_("on the device"),
    }
)

_LEARNS: Final = MappingProxyType(
    {
        "cpt": "domain_text", "cpt_sft": "domain_text", "dpo": "preference", "kto": "preference",
        "rlhf_ppo": "preference", "grpo_rlvr": "reward", "distillation": "teacher",
    }
)  # fmt: skip
_MOVES: Final = MappingProxyType(
    {
        "sft_lora": "lora", "sft_qlora": "qlora", "sft_full": "full", "sft_partial_freeze": "last_layers",
        "multi_lora": "many_lora", "adapters": "bottleneck", "prefix_tuning": "soft_prompt", "p_tuning": "soft_prompt",
        "small_encoder": "encoder", "managed_ft": "provider",
    }
)  # fmt: skip
_PLACES: Final = MappingProxyType(
    {"vpc_only": "own_cloud", "on_prem": "own_machines", "offline_device": "device"}
)


def axes(a: Answers, leaf: str, plan: Sequence[Stage]) -> Axes:
    """Where the plan stands on each axis; a preference or a reward is learned with the weights that supervision moves."""
    update = _update(a, leaf)
    return Axes(_context(leaf, plan), _objective(leaf), update, _place(a, leaf, update))


def _context(leaf: str, plan: Sequence[Stage]) -> str:
    meant = {stage.leaf for stage in plan if stage.role != "baseline"}
    if meant & {"rag", "rag_ft"}:
        return "retrieval"
    if "long_context" in meant:
        return "whole_text"
    return "examples" if leaf == "few_shot" else "prompt"


def _objective(leaf: str) -> str:
    return _LEARNS.get(leaf, "imitation") if leaf in TRAINING_LEAVES else "none"


def _update(a: Answers, leaf: str) -> str:
    if leaf not in TRAINING_LEAVES:
        return "none"
    if leaf in {"cpt", "cpt_sft"} and p.fits(a, p.FULL_BYTES):
        return "full"  # low rank learns less from raw text than all weights do (Biderman 2405.09673)
    own = leaf if leaf in _MOVES else standing(walk.leaf(a, start="u_update"), a)
    return _MOVES.get(own, "lora")


def _place(a: Answers, leaf: str, update: str) -> str:
    if update == "provider":
        return "provider"
    if place := _PLACES.get(a.privacy or ""):
        return place
    return "own_machines" if leaf in TRAINING_LEAVES and a.vram_gb else "anywhere"
