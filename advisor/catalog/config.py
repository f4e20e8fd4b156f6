"""The dimensions of a model on disk: `config.json` in the form that transformers writes. The file is not trusted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from advisor import reading
from advisor.errors import AdvisorError
from recipes.exits import Exit
from recipes.words import N_

MAX_BYTES: Final = 4_000_000
"""A config.json has some kilobytes; a file of this size is something else."""
MAX_SIZE: Final = 10**9
"""No dimension of a model is larger; what is larger is damage."""

BLOCKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "llama": "llama",
        "mistral": "llama",
        "ministral3": "llama",
        "qwen2": "llama",
        "smollm3": "llama",
        "granite": "llama",
        "seed_oss": "llama",
        "mixtral": "llama",
        "qwen3": "qwen3",
        "qwen3_moe": "qwen3",
        "olmo2": "olmo2",
        "olmo3": "olmo2",
        "phi3": "phi3",
        "glm4": "glm4",
        "gemma": "gemma",
        "gemma3_text": "gemma3",
    }
)
"""Which decoder block an architecture (`model_type`) has; the others need a dry run. Source: their code, 5.23."""

QKV_BIAS: Final = frozenset({"qwen2", "seed_oss", "glm4"})
"""Architectures whose query, key and value layers have a bias although no key of the config says so."""
TIED: Final = frozenset({"gemma", "gemma3_text"})
"""Architectures that tie head and embedding unless the config says otherwise (their config classes' default)."""
TEXT_PARTS: Final = ("text_config", "language_config", "llm_config")
"""Where a model that also sees or hears keeps the dimensions of its language part."""

OTHER_HEADS: Final = (
    "ForMaskedLM",
    "ForPreTraining",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "ForImageClassification",
    "EncoderModel",
)
"""How the classes of models end that predict no next token."""

_NAMES: Final = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "hidden": ("hidden_size", "n_embd"),
    "heads": ("num_attention_heads", "n_head"),
    "mlp": ("intermediate_size", "n_inner"),
    "vocabulary": ("vocab_size",),
}
_EXPERTS: Final = ("num_local_experts", "num_experts", "n_routed_experts")


class ConfigError(AdvisorError):
    """A model directory whose `config.json` is missing or cannot be used."""

    exit_code = Exit.USAGE
    code = "M0100"


@dataclass(frozen=True, slots=True)
class Dimensions:
    """What `config.json` says, in our words; `note` says why memory cannot be estimated by formula."""

    model_type: str
    sizes: Mapping[str, int]
    block: str
    estimator: Literal["closed_form", "closed_form_moe", "dry_run_required"]
    moe: Mapping[str, int] | None
    qkv_bias: bool
    tied: bool
    note: str


def dimensions(directory: Path) -> Dimensions:
    """Read the dimensions of the model in `directory`.

    Raises:
        ConfigError: No readable `config.json`, not one JSON object, or sizes that are missing or impossible;
            all such keys are named at once.
    """
    path = directory / "config.json"
    return described(_load(path), str(path))


def described(whole: Mapping[str, Any], where: str) -> Dimensions:
    """Take the dimensions from the content of a `config.json`.

    Raises:
        ConfigError: Sizes that are missing or impossible; all such keys are named at once.
    """
    _refuse_other_tasks(whole, where)
    part: dict[str, Any] = next((whole[key] for key in TEXT_PARTS if isinstance(whole.get(key), dict)), {})
    config = {**whole, **part}
    kind = str(config.get("model_type", ""))
    sizes = _sizes(config, where)
    moe = _experts(config, sizes["mlp"], where)
    block = BLOCKS.get(kind, "other")
    return Dimensions(
        model_type=kind,
        sizes=MappingProxyType(sizes),
        block=block,
        estimator="dry_run_required" if block == "other" else "closed_form_moe" if moe else "closed_form",
        moe=moe,
        qkv_bias=bool(config.get("attention_bias", kind in QKV_BIAS)),
        tied=bool(config.get("tie_word_embeddings", whole.get("tie_word_embeddings", kind in TIED))),
        note="" if block != "other" else f"model_type {kind[:64]!r}",
    )


def _refuse_other_tasks(config: Mapping[str, Any], where: str) -> None:
    """Refuse what says itself that it is no causal language model: encoders, and pairs of encoder and decoder."""
    named = config.get("architectures")
    heads = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    other = bool(heads) and all(name.endswith(OTHER_HEADS) for name in heads)
    if other or config.get("is_encoder_decoder") is True:
        raise ConfigError(
            N_("this is not a causal language model: {heads}"),
            remedy=N_("only causal language models (decoders) can be read; see `advisor models`"),
            where=where,
            heads=", ".join(heads)[:200] or "is_encoder_decoder",
        )


def _load(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(reading.whole(path, MAX_BYTES))
    except FileNotFoundError:
        raise ConfigError(
            N_("the model directory has no config.json"),
            remedy=N_("give a directory in Hugging Face format, or a name from `advisor models`"),
            where=str(path.parent),
        ) from None
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(
            N_("config.json cannot be read as one JSON object"),
            remedy=N_("copy the file anew from where the model came from"),
            where=str(path),
        )
    return found


def _sizes(config: Mapping[str, Any], where: str) -> dict[str, int]:
    sizes = {ours: _size(config, names) for ours, names in _NAMES.items()}
    bad = [" / ".join(_NAMES[ours]) for ours, size in sizes.items() if size is None]
    if bad:
        raise ConfigError(
            N_("config.json lacks a whole number above 0 for: {keys}"),
            remedy=N_("only causal language models (decoders) can be read; see `advisor models`"),
            where=where,
            keys=", ".join(bad),
        )
    full = {ours: size for ours, size in sizes.items() if size is not None}
    heads = full["heads"]
    full["kv_heads"] = _size(config, ("num_key_value_heads",)) or heads
    full["head_width"] = _size(config, ("head_dim",)) or max(1, full["hidden"] // heads)
    full["context"] = _size(config, ("max_position_embeddings", "n_positions")) or 0
    return full


def _size(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    found = next((config[name] for name in names if config.get(name) is not None), None)
    if not isinstance(found, int) or isinstance(found, bool):
        return None
    return found if 0 < found <= MAX_SIZE else None


def _experts(config: Mapping[str, Any], mlp: int, where: str) -> dict[str, int] | None:
    experts = _size(config, _EXPERTS)
    if experts is None:
        return None
    active = _size(config, ("num_experts_per_tok",))
    if active is None or active > experts:
        raise ConfigError(
            N_("config.json has experts, but num_experts_per_tok is missing or larger than their number"),
            remedy=N_("copy the file anew from where the model came from"),
            where=where,
        )
    return {"experts": experts, "active": active, "mlp": _size(config, ("moe_intermediate_size",)) or mlp}
