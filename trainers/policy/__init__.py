"""The policy: the model that learns or is judged, with its tokenizer. The only place that calls `from_pretrained`."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, cast

import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from recipes.plan import Adaptation, Lora, Model
from recipes.words import N_
from trainers.adapt import bottleneck
from trainers.adapt.adapters import Base
from trainers.adapt.prompts import Prompted
from trainers.data import ensure_template, stop_ids
from trainers.errors import CPU_FULL, Mismatch, MissingPackage, MissingWeights
from trainers.loop import Batch
from trainers.policy.context import context_tokens, has_balancing_loss
from trainers.policy.forward import Nll, as_trained, choose, packed_nll, plain_head, stock_nll
from trainers.policy.source import Source, find, sum_of

DTYPES: Final[Mapping[str, torch.dtype]] = MappingProxyType(
    {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
)


@dataclass(frozen=True, slots=True)
class Policy:
    """A model that can generate (its attention is the one it was loaded with), its tokenizer, and how rows go through it.

    `nll` is chosen by a probe; `fallback` says why it is not the fast one, and `own_template` whether the chat
    template is ours because the model had none.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    nll: Nll
    source: Source
    fallback: str = ""
    own_template: bool = False

    @property
    def causal(self) -> PreTrainedModel:
        """The causal language model itself, inside or without adapters."""
        return causal(self.model)

    @property
    def context_tokens(self) -> int | None:
        """The longest document the model was made for."""
        return context_tokens(self.causal.config)

    @property
    def has_balancing_loss(self) -> bool:
        """Whether there is a loss of the router's that training here leaves out."""
        return has_balancing_loss(self.causal.config)

    def as_trained(self) -> AbstractContextManager[None]:
        """Inside, the model attends as `loss` wants it; outside, it generates."""
        return as_trained(self.causal, self.nll)

    def loss(self, batch: Batch) -> Tensor:
        """The summed negative log-likelihood of a row's trained tokens, in nats."""
        match self.model:
            case Prompted(has_prefix=True) if self.nll is not packed_nll:  # only the cache takes it there
                return self.nll(cast(PreTrainedModel, self.model), batch)
            case Prompted():
                return self.nll(self.causal, self.model.in_front(batch))
            case _:
                return self.nll(self.causal, batch)


def load(
    model: Model,
    home: Path,
    device: torch.device,
    adaptation: Adaptation | None = None,
    *,
    length_tokens: int = 0,
    divided: bool = False,
) -> Policy:
    """Load a base model and its tokenizer, from data only: safetensors, no code.

    Args:
        model: What to load; a directory is relative to `home`.
        home: The recipe's directory.
        device: Where to.
        adaptation: What will be trained; an NF4 base is quantised on the way in.
        length_tokens: How long a trained row may be; the way rows go is proved at this length.
        divided: Processes will divide the weights: they wait in the computer's memory, and the way of the rows is
            `proved` afterwards.

    Raises:
        MissingWeights: Nothing is there, it is not whole, or transformers cannot read it.
        PickleRefused: The weights exist only as pickles.
        CodeRefused: It wants its own code to run.
        Mismatch: Its tokenizer knows tokens that it has no embeddings for.
    """
    source = find(model, home)
    quantised = quantisation(adaptation, DTYPES[model.dtype], divided=divided)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.directory, trust_remote_code=False)
        _same_vocabulary(source, tokenizer)
        loaded = AutoModelForCausalLM.from_pretrained(
            source.directory,
            dtype=DTYPES[model.dtype],
            quantization_config=quantised,
            device_map={"": torch.device("cpu") if divided and quantised is None else device},
            use_safetensors=True,
            trust_remote_code=False,
        )
    except ImportError as error:
        if quantised is None:
            raise
        raise MissingPackage("bitsandbytes") from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError) or CPU_FULL in str(error):
            raise
        raise MissingWeights(
            N_("transformers cannot load it: {reason}"),
            remedy=N_("check that the directory holds a causal language model and its tokenizer"),
            where=str(source.directory),
            reason=str(error)[:300],
        ) from error
    keep_unpacked(loaded)
    # what an adapter names as its base
    loaded.name_or_path = model.id if source.commit else str(source.directory)
    policy = ready(loaded, tokenizer, device, source)
    return policy if divided else proved(policy, length_tokens)


def _same_vocabulary(source: Source, tokenizer: PreTrainedTokenizerBase) -> None:
    """See, before any weight is read, that every token of the tokenizer has a row in the embeddings."""
    rows = AutoConfig.from_pretrained(source.directory, trust_remote_code=False).get_text_config().vocab_size
    token, last = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if last >= rows:
        raise Mismatch(
            N_("the tokenizer has tokens up to {last} ({token}), and the model has embeddings for {rows}"),
            remedy=N_(
                "take the tokenizer that came with the model, or a model whose embeddings were enlarged"
            ),
            where=str(source.directory),
            last=last,
            token=token[:40],
            rows=rows,
        )


def ready(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
    source: Source,
) -> Policy:
    """Make a policy of a loaded model: a template, and tokens that stop it. Its rows go the slow way until `proved`."""
    own_template = ensure_template(tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # masks are by position, so this loses nothing
    model.generation_config.eos_token_id = sorted(stop_ids(tokenizer))
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return Policy(model, tokenizer, device, stock_nll, source, "", own_template)


def proved(policy: Policy, length_tokens: int) -> Policy:
    """The same policy with the fast way for rows, where a probe at this length finds it right."""
    longest = min(length_tokens, policy.context_tokens or length_tokens)
    path = choose(policy.causal, longest)
    return replace(policy, nll=path.nll, fallback=path.why)


def with_model(policy: Policy, model: PreTrainedModel | PeftModel) -> Policy:
    """The same policy with an adapted model; adapters on the head need the model's own forward."""
    adapted = replace(policy, model=model)
    return adapted if plain_head(adapted.causal) else replace(adapted, nll=stock_nll)


def is_beside_base(policy: Policy) -> bool:
    """Whether an adapter is what is saved, and the base stays where it is."""
    return isinstance(policy.model, PeftModel) or bool(bottleneck.installed(policy.model))


def save(policy: Policy, directory: Path) -> None:
    """Write an adapter as peft does (several: a folder each), bottlenecks, or the whole model; with the tokenizer.

    Raises:
        OSError: The disk did not take it.
    """
    base = Base(str(policy.causal.name_or_path), sum_of(policy.source))
    if isinstance(policy.model, PeftModel):
        # without asking whether embeddings grew: nothing here adds tokens, and peft would look on the hub
        policy.model.save_pretrained(str(directory), save_embedding_layers=False)
        for config in directory.rglob("adapter_config.json"):
            base.write(config.parent)
    elif bottleneck.installed(policy.model):
        bottleneck.save(policy.model, directory)
        base.write(directory)
    else:
        policy.model.save_pretrained(directory)
    policy.tokenizer.save_pretrained(directory)


def causal(model: nn.Module) -> PreTrainedModel:
    """The causal language model inside, with or without adapters."""
    found = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(found, PreTrainedModel):
        raise TypeError(f"not a language model: {type(found).__name__}")
    return found


def keep_unpacked(model: nn.Module) -> None:
    """Keep NF4 weights as they were quantised.

    On a CPU with AVX512-BF16 bitsandbytes 0.50 rewrites a layer for its own inference kernel at the first forward
    without gradients, in place: scores before and after training would come of different arithmetic, and whoever
    makes such a weight dense, as training does, would get noise.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            vars(module)["support_avx512bf16_for_cpu"] = False


def quantisation(
    adaptation: Adaptation | None, dtype: torch.dtype, *, divided: bool = False
) -> BitsAndBytesConfig | None:
    """NF4 for QLoRA (Dettmers et al., 2023), or LLM.int8 (2022): linear layers inside the blocks only, math in the model's dtype."""
    match adaptation:
        case Lora(base="int8"):
            # it says at every product of a step that inputs are rounded to 16 bit first
            logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
            return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]  # transformers does not annotate it
        case Lora(base="nf4", double_quantisation=double):
            return BitsAndBytesConfig(  # type: ignore[no-untyped-call]  # transformers does not annotate it
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_compute_dtype=dtype,
                bnb_4bit_use_double_quant=double,
                # FSDP2 divides only what calls itself a number of the type that is computed with
                bnb_4bit_quant_storage=dtype if divided else torch.uint8,
            )
        case _:
            return None
