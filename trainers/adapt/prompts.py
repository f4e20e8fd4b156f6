"""Learned positions in front of each document: prefix tuning, P-tuning and prompt tuning.

peft makes and saves them, and plain peft loads them. What is ours is how rows meet them. A packed row gets them before
each document, not once; a padded batch gets them where positions count on from them, not before the padding. Two
forms: *virtual tokens* are input vectors with ids of their own, -1, -2 and so on, which `speak` teaches the
embeddings; a *prefix* is keys and values for each layer, which packed attention takes as they are.

Letters of shapes: B rows of a batch, T tokens, D documents, v virtual tokens, K key heads, E head size.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import torch
import torch.nn.functional as F
from peft import (
    PeftConfig,
    PeftModelForCausalLM,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import CausalLMOutputWithPast

from recipes.plan import Prefix, PromptTuning, PTuning
from recipes.words import N_
from trainers.adapt.names import wrong
from trainers.loop import Batch

TASK: Final = "CAUSAL_LM"


class Prompted(PeftModelForCausalLM):
    """A model of peft that learns positions; forward and generation are right for rows padded on the left."""

    @property
    def virtual_tokens(self) -> int:
        """How many positions each document gets in front."""
        return int(self.active_peft_config.num_virtual_tokens)

    @property
    def has_prefix(self) -> bool:
        """Whether they are keys and values, not input vectors."""
        return isinstance(self.active_peft_config, PrefixTuningConfig)

    def forward(  # type: ignore[override]  # as a causal model is called here, no more
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: object
    ) -> CausalLMOutputWithPast:
        """The logits [B, T, V] of a prefixed batch; [B, v + T, V] with virtual tokens, as in peft.

        Raises:
            RecipeError: A prefix is trained through the cache, which recomputed blocks cannot read twice.
        """
        if self.has_prefix and self.training and _recomputes(self.base_model):
            raise wrong(
                N_(
                    "on this architecture a prefix cannot be trained with recomputed activations: set it to false"
                ),
                "schedule.checkpointing",
            )
        ids_BT, mask_BT = self._widened(input_ids, attention_mask)
        positions_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
        kwargs.pop("position_ids", None)
        seen = self.virtual_tokens if self.has_prefix else 0
        out: CausalLMOutputWithPast = self.base_model(
            input_ids=ids_BT[:, seen:],
            attention_mask=mask_BT,
            **({"position_ids": positions_BT[:, seen:]} if self.is_positional else {}),
            **kwargs,
            **self._cached(len(ids_BT)),
        )
        return out

    @property
    def is_positional(self) -> bool:
        """Whether the base model can be told positions."""
        return "position_ids" in inspect.signature(self.base_model.forward).parameters

    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: object) -> Tensor:
        """What was given and what follows, [B, T + new]."""
        ids_BT, mask_BT = self._widened(input_ids, attention_mask)
        base: Any = self.base_model
        out: Tensor = base.generate(
            input_ids=ids_BT, attention_mask=mask_BT, **kwargs, **self._cached(len(ids_BT))
        )
        return out[:, self.virtual_tokens :]

    def in_front(self, batch: Batch) -> Batch:
        """A packed row with the learned positions in front of each document."""
        if self.has_prefix:
            return prefixed(batch, self.keys_and_values(), self.virtual_tokens)
        return spoken(batch, self.virtual_tokens)

    def keys_and_values(self) -> list[tuple[Tensor, Tensor]]:
        """The prefix of each layer, keys and values [1, K, v, E]."""
        cache: Any = self.get_prompt(1)
        return [(layer.keys, layer.values) for layer in cache.layers]

    def vectors(self) -> Tensor:
        """The virtual tokens as input vectors, [v, H]."""
        return self.get_prompt(1)[0]

    def _widened(self, ids_BT: Tensor, mask_BT: Tensor | None) -> tuple[Tensor, Tensor]:
        """Put v columns before a batch; padding between them and a row is masked, and no position counts it."""
        mask_BT = torch.ones_like(ids_BT) if mask_BT is None else mask_BT
        front_Bv = _ids(self.virtual_tokens, ids_BT.device).expand(len(ids_BT), -1)
        if self.has_prefix:  # they stand for what is in the cache, and are cut off unread
            front_Bv = torch.zeros_like(front_Bv)
        return torch.cat([front_Bv, ids_BT], 1), torch.cat([torch.ones_like(front_Bv), mask_BT], 1)

    def _cached(self, rows: int) -> dict[str, Any]:
        return {"past_key_values": self.get_prompt(rows)} if self.has_prefix else {}


def prefix(model: PreTrainedModel, plan: Prefix, seed: int) -> Prompted:
    """Keys and values that begin at zero: drawn ones disturb every layer, and learn far worse (ADR 0022)."""
    return _wrapped(
        model,
        PrefixTuningConfig(task_type=TASK, num_virtual_tokens=plan.virtual_tokens, init_weights="zero"),
        seed,
    )


def p_tuning(model: PreTrainedModel, plan: PTuning, seed: int) -> Prompted:
    """Input vectors that a small network makes; only what it makes is needed afterwards."""
    config = PromptEncoderConfig(
        task_type=TASK, num_virtual_tokens=plan.virtual_tokens, encoder_hidden_size=plan.encoder_width
    )
    made = _wrapped(model, config, seed)
    speak(_embeddings(model), made.vectors)
    return made


def prompt_tuning(
    model: PreTrainedModel, plan: PromptTuning, seed: int, tokenizer: PreTrainedTokenizerBase | None
) -> Prompted:
    """Input vectors that begin as words: those of a text, repeated or cut to length, or drawn from the vocabulary.

    Raises:
        RecipeError: The text has no token.
    """
    config = PromptTuningConfig(
        task_type=TASK, num_virtual_tokens=plan.virtual_tokens, prompt_tuning_init="SAMPLE_VOCAB"
    )
    made = _wrapped(model, config, seed)
    embeddings = _embeddings(model)
    if plan.start is not None and tokenizer is not None:
        words = tokenizer(plan.start, add_special_tokens=False)["input_ids"]
        if not words:
            raise wrong(N_("adaptation.start has no token: leave it out, or give a text"), "adaptation.start")
        ids = (words * -(-plan.virtual_tokens // len(words)))[: plan.virtual_tokens]
        encoder: Any = made.prompt_encoder[made.active_adapter]
        with torch.no_grad():
            encoder.embedding.weight.copy_(embeddings(torch.tensor(ids, device=embeddings.weight.device)))
    speak(embeddings, made.vectors)
    return made


def _wrapped(model: PreTrainedModel, config: PeftConfig, seed: int) -> Prompted:
    torch.manual_seed(seed)
    made: Any = get_peft_model(model, config)
    made.__class__ = Prompted
    found: Prompted = made
    return found


def _recomputes(model: nn.Module) -> bool:
    """Whether some block is computed again in the backward."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def _embeddings(model: PreTrainedModel) -> nn.Embedding:
    found: nn.Embedding = model.get_input_embeddings()  # type: ignore[assignment]  # of words, so it is one
    return found


def speak(embedding: nn.Embedding, vectors: Callable[[], Tensor]) -> None:
    """Teach an embedding the ids of virtual tokens: -1 is the first row of `vectors()`, [v, H]."""
    plain = embedding.forward

    def forward(ids: Tensor) -> Tensor:
        words = plain(ids.clamp(min=0))
        made = F.embedding((-1 - ids).clamp(min=0), vectors().to(words.dtype))
        return torch.where((ids < 0)[..., None], made, words)  # no branch: that would wait for the device

    embedding.forward = forward  # type: ignore[assignment]  # of this one module, for as long as it lives


def spoken(batch: Batch, v: int) -> Batch:
    """A row in which each document begins with v virtual tokens; what is predicted where moves along."""
    tokens, places_T, front_Dv, attention = _moved(batch, v)
    device = batch.ids_1T.device
    ids_T = torch.empty(tokens, dtype=torch.long, device=device)
    positions_T = torch.empty(tokens, dtype=torch.long, device=device)
    ids_T[places_T], positions_T[places_T] = batch.ids_1T[0], batch.positions_1T[0] + v
    ids_T[front_Dv], positions_T[front_Dv] = _ids(v, device), torch.arange(v, device=device)
    spans = tuple((a + d * v, b + (d + 1) * v) for d, (a, b) in enumerate(batch.spans))
    return replace(
        batch,
        ids_1T=ids_T[None],
        positions_1T=positions_T[None],
        index_N=places_T[batch.index_N],
        spans=spans,
        attention={
            **attention,
            "cu_seq_lens_q": attention["cu_seq_lens_k"],
            "max_length_q": attention["max_length_k"],
            "spans": spans,
        },
    )


def prefixed(batch: Batch, layers: list[tuple[Tensor, Tensor]], v: int) -> Batch:
    """A row in which each document sees v learned keys and values of each layer, [1, K, v, E], before its own."""
    tokens, places_T, front_Dv, attention = _moved(batch, v)
    device = batch.ids_1T.device
    key_index = torch.empty(tokens, dtype=torch.long, device=device)
    key_index[front_Dv] = torch.arange(v, device=device)
    key_index[places_T] = torch.arange(len(places_T), device=device) + v
    return replace(
        batch,
        positions_1T=batch.positions_1T + v,
        attention={**attention, "prefix": layers, "key_index": key_index},
    )


def _moved(batch: Batch, v: int) -> tuple[int, Tensor, Tensor, dict[str, Any]]:
    """Where everything of a row is when each document is v longer, found on the device.

    Returns:
        How many tokens there are then; where each token goes [T]; where each document's learned positions are
        [D, v]; the arguments of attention with longer keys.
    """
    documents, device = len(batch.spans), batch.ids_1T.device
    old: dict[str, Any] = dict(batch.attention)
    ends = old["cu_seq_lens_k"]
    number_T = torch.searchsorted(
        ends[1:], torch.arange(batch.tokens, device=device, dtype=ends.dtype), right=True
    )
    places_T = torch.arange(batch.tokens, device=device) + (number_T + 1) * v
    starts_D = ends[:documents].long() + torch.arange(documents, device=device) * v
    front_Dv = starts_D[:, None] + torch.arange(v, device=device)
    longer = torch.arange(len(ends), device=device, dtype=ends.dtype).clamp(max=documents) * v
    attention = {**old, "cu_seq_lens_k": ends + longer, "max_length_k": old["max_length_k"] + v}
    return batch.tokens + documents * v, places_T, front_Dv, attention


def _ids(v: int, device: torch.device) -> Tensor:
    """The ids of v virtual tokens, in order."""
    return -1 - torch.arange(v, device=device)
