"""What a model says: greedy generation in batches, cut at the first end token."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from transformers import GenerationConfig

from trainers.data import stop_ids
from trainers.evaluate.padding import by_length, left
from trainers.evaluate.subject import Subject

BUDGET_TOKENS: Final = 8_192
"""Tokens whose keys and values are kept at once: about 1 GiB for an 8B model with 8 key-value heads."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The text of an answer, and whether the model ended it before the limit did."""

    text: str
    stopped: bool


def answer(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    *,
    ends: AbstractSet[int],
    limit: int,
    on_rows: Callable[[int], None],
) -> tuple[Answer, ...]:
    """Answer each prompt (token ids) greedily with at most `limit` tokens; `on_rows` hears how many are done."""
    found: dict[int, Answer] = {}
    settings = _greedy(subject, ends, limit)
    for batch in by_length([len(prompt) + limit for prompt in prompts], BUDGET_TOKENS):
        padded = left([prompts[i] for i in batch], subject.device)
        out_BT = subject.model.generate(
            input_ids=padded.ids_BT, attention_mask=padded.mask_BT, generation_config=settings
        )
        for i, new in zip(batch, out_BT[:, padded.ids_BT.shape[1] :].tolist(), strict=True):
            found[i] = _cut(subject, new, ends)
        on_rows(len(found))
    return tuple(found[i] for i in range(len(prompts)))


def end_ids(subject: Subject) -> frozenset[int]:
    """Every id that ends an answer: what the tokenizer and its template say, and what the model itself says.

    A tokenizer's `eos_token` is often not the token with which its chat template ends a turn; a model that is
    right would then be heard rambling.
    """
    settings = getattr(subject.model, "generation_config", None)
    own = getattr(settings, "eos_token_id", None)
    listed = own if isinstance(own, list) else [own]
    return stop_ids(subject.tokenizer) | {i for i in listed if i is not None}


def _greedy(subject: Subject, ends: AbstractSet[int], limit: int) -> GenerationConfig:
    """Greedy, and nothing else: what the model's own settings would add is switched off by name."""
    pad = subject.tokenizer.pad_token_id
    return GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        do_sample=False,
        num_beams=1,
        temperature=1.0,
        top_k=50,
        top_p=1.0,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        use_cache=True,
        max_new_tokens=limit,
        eos_token_id=sorted(ends) or None,
        pad_token_id=pad if pad is not None else min(ends, default=0),
    )


def _cut(subject: Subject, new: Sequence[int], ends: AbstractSet[int]) -> Answer:
    end = next((place for place, token in enumerate(new) if token in ends), None)
    text = subject.tokenizer.decode(new[:end], skip_special_tokens=True)
    return Answer(str(text).strip(), stopped=end is not None)
