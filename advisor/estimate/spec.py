"""One record of a batch, in the words of published measurements, as a setup: its fields win over the profile's.

The fields are those that normalised measurements have (`model`, `method`, `seq_len`, `micro_batch`, `loss`, ...);
null, like a field that is not there, means that nobody knows.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, Literal

from advisor.catalog.models import ModelShape, configured, model
from advisor.errors import BadValue
from advisor.estimate import litgpt
from advisor.estimate.foreign import GROUND, Foreign, Method, forms
from advisor.estimate.profiles import Profile
from advisor.estimate.record import Record, no_formula, unknown
from advisor.estimate.resolve import resolved
from advisor.estimate.setup import (
    MAX_TOKENS,
    Dtype,
    Objective,
    Reference,
    Setup,
    Sharding,
)
from recipes.plan import (
    Adaptation,
    Bottleneck,
    Full,
    Ia3,
    LastLayers,
    Lora,
    Named,
    Prefix,
    PromptTuning,
    PTuning,
)
from recipes.words import N_


def described(fields: object) -> Setup:
    """Reduce one record to the input of an estimate.

    Raises:
        AdvisorError: The record is no table, a value is impossible, or nothing of ours describes what it asks for.
    """
    if not isinstance(fields, dict):
        raise BadValue(
            N_("a record must be a table of fields"), remedy=N_("give an object, or a list of them")
        )
    record = Record(fields)
    length, rows = record.needed("seq_len"), record.needed("micro_batch")
    if length * rows > MAX_TOKENS:
        record.refuse("seq_len", N_("fewer tokens"), str(length * rows))
    for problem in _CONTRADICTIONS:
        problem(record)
    used = resolved(record)
    shape = _shape(record)
    if used.blocks == "litgpt":
        shape = _in_litgpt(record, shape)
    try:
        adaptation, foreign = _moves(record, shape, used)
    except ValueError:  # a number or name that no recipe could hold
        record.refuse("method", N_("one whose numbers and names a recipe can hold"))
    return Setup(
        shape=shape,
        adaptation=adaptation,
        foreign=foreign,
        profile=used,
        micro_batch_tokens=length * rows,
        longest_tokens=length,
        label_share=_label_share(record),
        accumulates=(record.whole("grad_accum") or 1) > 1,
        checkpointing=_recomputes(record),
        checkpointing_layers=record.whole("grad_ckpt_every") or 1,
        checkpointing_offload=record.text("grad_ckpt_policy") in {"offload", "offloaded"},
        dtype=_dtype(record),
        objective=_objective(record),
        reference=_reference(record),
        response_tokens=record.whole("response_len", least=0) or 0,
        processes=record.whole("n_gpus") or 1,
        sharding=_sharding(record),
        autocast=_dtype(record) == "float32" and record.text("autocast_dtype") in _SIXTEEN,
        held="gptq" if _is_gptq(record) else None,
        dropout=record.share("lora_dropout") or 0.0,
        extra_modules=_extra_modules(record),
        exact_weights=record.flag("exact_weights") is not False,
        steps_in_backward=bool(record.flag("optimizer_in_backward")),
    )


# --- what no run can be ---


def _quantised_full(record: Record) -> None:
    if record.text("quant") and record.text("method") in {"full", "last_layers", "named"}:
        record.refuse("quant", N_("null where the weights themselves move"), record.text("quant"))


def _dora_on_8_bit(record: Record) -> None:
    quant = record.text("quant") or ""
    if "dora" in (record.text("method") or "") and quant not in {"", *_NF4}:
        record.refuse("quant", N_("null or nf4 with DoRA"), quant)


def _zero3_quantised(record: Record) -> None:
    if record.text("quant") and _sharding(record) == "zero3":
        record.refuse("sharding", N_("fsdp2 or zero2 on a quantised base"), record.text("sharding"))


_CONTRADICTIONS: Final = (_quantised_full, _dora_on_8_bit, _zero3_quantised)


# --- field by field ---

_SIXTEEN: Final = frozenset({"bf16", "bfloat16", "fp16", "float16"})
_THIRTY_TWO: Final = frozenset({"fp32", "float32"})
_NF4: Final = frozenset({"nf4", "nf4_dq", "nf4_double", "bnb_4bit"})
_INT8: Final = frozenset({"int8", "llm_int8", "bnb_8bit"})
_OBJECTIVES: Final = {
    None: "sft",
    "cpt": "cpt",
    "dpo": "dpo",
    "grpo": "grpo",
    "kto": "kto",
    "ppo": "ppo",
    "pretrain": "cpt",
    "reward": "reward",
    "rewardmodel": "reward",
    "rm": "reward",
    "sft": "sft",
}
_SHARDINGS: Final[Mapping[str, Sharding]] = MappingProxyType(
    {
        "zero1": "zero1",
        "zero2": "zero2",
        "zero3": "zero3",
        "fsdp": "fsdp2",
        "fullshard": "fsdp2",
        "ddp": "none",
        "none": "none",
    }
)
"""By what a record's word contains."""
_UNKNOWN_SHAPES: Final = frozenset({"fp8", "mxfp4", "fp4", "nvfp4"})


def _dtype(record: Record) -> Dtype:
    word = record.text("weights_dtype")
    if word is None or word in _SIXTEEN:
        return "float16" if word in {"fp16", "float16"} else "bfloat16"
    if word in _THIRTY_TWO:
        return "float32"
    raise no_formula(N_("there is no formula for weights in {word}"), word=word)


def _objective(record: Record) -> Objective:
    return record.choice("objective", _OBJECTIVES)  # type: ignore[return-value]  # the table's values are the literals


def _reference(record: Record) -> Reference:
    """Given, or what trainers do: the model without its adapter, or a copy where the model itself moves."""
    table = {
        None: None,
        "copy": "copy",
        "adapteroff": "adapter_off",
        "precomputed": "precomputed",
        "none": "none",
    }
    said = record.choice("reference", table)
    if said is not None:
        return said  # type: ignore[return-value]  # as above
    if _objective(record) not in {"dpo", "kto", "ppo", "grpo"}:
        return "none"
    return "copy" if record.text("method") in {"full", "last_layers", "named"} else "adapter_off"


def _sharding(record: Record) -> Sharding:
    word = (record.text("sharding") or "none").lower().replace("-", "").replace("_", "").replace(" ", "")
    if (record.whole("n_gpus") or 1) == 1:
        return "none"
    if "offload" in word:
        raise no_formula(N_("there is no formula for what {word} moves to the computer's memory"), word=word)
    found: Sharding | None = next((ours for theirs, ours in _SHARDINGS.items() if theirs in word), None)
    if found is None:
        record.refuse("sharding", N_("one of its known words"))
    return found


def _is_gptq(record: Record) -> bool:
    quant, method = record.text("quant"), record.text("method") or ""
    return quant.startswith("gptq") if quant else method.startswith("gptq")


def _recomputes(record: Record) -> bool:
    said, policy = record.flag("grad_ckpt"), record.text("grad_ckpt_policy")
    if said is None and policy is None:
        record.needed("grad_ckpt")
    return bool(said) if said is not None else policy not in {"none", "off"}


def _label_share(record: Record) -> float:
    return 1.0 if record.text("objective") == "cpt" else record.share("label_share") or 1.0


def _extra_modules(record: Record) -> tuple[str, ...]:
    """Copies of the two matrices at the ends; of smaller modules the size is not worth a term."""
    known = {"embed_tokens", "lm_head", "wte"}
    names = record.names("extra_trained_modules")
    if strange := [name for name in names if name not in known and "norm" not in name]:
        raise no_formula(N_("there is no formula for the trained module {word}"), word=strange[0])
    return tuple(name for name in names if name in known)


def _shape(record: Record) -> ModelShape:
    config, name = record.table("model_config"), record.text("model")
    if config:
        return configured(config, name or "model_config")
    if not name:
        raise unknown("model")
    return model(name)


def _moves(record: Record, shape: ModelShape, used: Profile) -> tuple[Adaptation, Foreign | None]:
    """What moves, as a recipe would say it, or as a method of peft alone."""
    virtual = record.whole("virtual_tokens")
    word = (record.text("method") or "").replace("-", "_") or None
    match word:
        case None:
            raise unknown("method")
        case _ if used.blocks == "litgpt" and word not in _OF_LITGPT:
            raise no_formula(N_("there is no formula for the method {word}"), word=f"{word} (litgpt)")
        case "full":
            return Full(), None
        case "last_layers" | "freeze":
            return LastLayers(layers=record.needed("layers")), None
        case "named":
            patterns = record.names("patterns") or record.names("extra_trained_modules")
            return Named(patterns=patterns or ("*",)), None
        case "lora" | "qlora" | "dora" | "qdora" | "lora_8bit" | "rslora" | "gptq_lora" | "gptq":
            return _lora(record, word, shape), None
        case "prompt_tuning":
            return PromptTuning(virtual_tokens=virtual or record.needed("virtual_tokens")), None
        case "p_tuning" | "ptuning":
            width = record.inner("method_params", "encoder_hidden_size") or shape.hidden
            return PTuning(
                virtual_tokens=virtual or record.needed("virtual_tokens"), encoder_width=width
            ), None
        case "prefix" | "prefix_tuning":
            if record.table("method_params").get("prefix_projection"):
                raise no_formula(
                    N_("there is no formula for the method {word}"), word="prefix with a projection"
                )
            return Prefix(virtual_tokens=virtual or record.needed("virtual_tokens")), None
        case "ia3":
            return Ia3(), None
        case "bottleneck" | "adapter":
            width = record.inner("method_params", "width") or record.needed("lora_rank")
            placement = record.table("method_params").get("placement")
            return Bottleneck(
                placement="houlsby" if placement == "houlsby" else "pfeiffer", width=width
            ), None
        case "other" if used.blocks == "litgpt":
            return _of_litgpt(record, shape)
        case "other":
            return Lora(rank=1), _foreign(record, shape)
        case _:
            raise no_formula(N_("there is no formula for the method {word}"), word=word)


def _base(record: Record, word: str) -> Literal["dense", "nf4", "int8"]:
    """How the frozen base is held."""
    quant = record.text("quant")
    if quant in _UNKNOWN_SHAPES:
        raise no_formula(N_("there is no formula for weights in {word}"), word=quant or "")
    if quant in _NF4 or (quant is None and word in {"qlora", "qdora"}):
        return "nf4"
    if quant in _INT8 or (quant is None and word == "lora_8bit"):
        return "int8"
    if quant and not quant.startswith("gptq"):
        raise no_formula(N_("there is no formula for weights in {word}"), word=quant)
    return "dense"


_QWEN_1: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "c_attn": ("q_proj", "k_proj", "v_proj"),
        "c_proj": ("o_proj", "down_proj"),
        "w1": ("up_proj",),
        "w2": ("gate_proj",),
    }
)
"""What the linear layers of the first Qwen models are called in later ones; c_attn is three of them side by side."""


def _as_named_here(targets: tuple[str, ...], shape: ModelShape) -> tuple[str, ...]:
    names = _QWEN_1 if shape.family == "Qwen 1" else {}
    return tuple(name for target in targets for name in names.get(target, (target,)))


def _lora(record: Record, word: str, shape: ModelShape) -> Lora:
    detail = (record.text("method_detail") or "").lower()
    targets = _as_named_here(record.names("lora_targets"), shape)
    if not targets:
        raise unknown("lora_targets")
    return Lora(
        base=_base(record, word),
        rank=record.needed("lora_rank"),
        targets=targets,
        double_quantisation=record.text("quant") != "nf4",
        dropout=min(record.share("lora_dropout") or 0.0, 0.99),
        dora="dora" in word or detail == "dora" or bool(record.table("method_params").get("use_dora")),
    )


def _in_litgpt(record: Record, shape: ModelShape) -> ModelShape:
    """The model as litgpt builds it: its head is a matrix of its own, whatever the checkpoint ties.

    Raises:
        Unsupported: Its blocks were read for Llama- and GPT-like models in 16 bit.
    """
    if shape.moe or shape.block not in {"llama", "gelu"} or _dtype(record) == "float32":
        word = "float32" if _dtype(record) == "float32" else shape.name
        raise no_formula(
            N_("there is no formula for {word} in the code of {trainer}"), word=word, trainer="litgpt"
        )
    return replace(shape, tied=False, published_parameters=None)


_OF_LITGPT: Final = frozenset({"full", "lora", "qlora", "other"})


def _of_litgpt(record: Record, shape: ModelShape) -> tuple[Adaptation, Foreign]:
    """LLaMA-Adapter and its second version, on a base of 16 or 4 bits."""
    said = (record.text("method_detail") or "").lower().replace(" ", "-").replace("_", "-")
    if said not in {litgpt.ADAPTER, litgpt.ADAPTER_V2}:
        raise no_formula(N_("there is no formula for the method {word}"), word=said or "other")
    base = _base(record, "")
    ground = GROUND.model_copy(update={"base": base, "double_quantisation": record.text("quant") != "nf4"})
    return ground, Foreign(Method(said), (), 1, litgpt.adapter_weights(shape, said))


def _foreign(record: Record, shape: ModelShape) -> Foreign:
    """A method of peft, in the form that the record tells.

    Raises:
        Unsupported: There is no row for it, or the record does not say which of its forms it is.
    """
    params = record.table("method_params")
    word = (record.text("method_detail") or str(params.get("peft_type") or "other")).lower()
    targets, rank = record.names("lora_targets"), record.whole("lora_rank") or 1
    trained = record.needed("trainable_params")
    known = forms(word)
    if not known:
        raise no_formula(N_("there is no formula for the method {word}"), word=word)
    found = [one for one in known if one.fits(shape, targets, rank, trained, params)]
    if len(found) != 1:
        raise no_formula(N_("the record does not say which form of {word} it is"), word=word)
    own = () if found[0].moves_norms else targets
    return Foreign(found[0], own, rank, trained)
