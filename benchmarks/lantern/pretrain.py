"""Train tokenizer and base model of Lantern Bay from scratch: `python benchmarks/lantern/pretrain.py OUT`.

With the defaults and one thread this makes the base that ships (about 16 CPU-minutes; `base.py` has its sums). Other
CPUs may round sums differently, so the weights ship and the script is the proof, not the source, of them.

Shapes: B rows of a batch, T tokens of a row, V entries of the vocabulary.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from advisor.learn.lantern.corpus import COPYING, KINDS, Document, Kind, corpus, draw_document
from advisor.learn.lantern.world import world

SPECIAL: Final = ("<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
PAD, BOS, END = 0, 1, 2
TEMPLATE: Final = (
    "{{- bos_token }}{% for m in messages %}{{- '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{- ' ' + m['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{- ' ' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{- '<|assistant|>' }}{% endif %}"
)
VOCABULARY: Final = 1024
TOKENIZER_SEED: Final = 11
TOKENIZER_DOCUMENTS: Final = 20_000
CONTEXT_TOKENS: Final = 512
BATCH_ROWS: Final = 16
ROW_TOKENS: Final = 256
PENDING: Final = 12
"""Documents among which the packer looks for one that fits the rest of a row."""
WEIGHTS: Final[Mapping[str, float]] = {"assistant": 1.0, "text": 0.5, "user": 0.1, "system": 0.1}
ROLE_WEIGHT: Final = 0.02
MUON_RATE: Final = 0.01
ADAM_RATE: Final = 2e-3
WARMUP_STEPS: Final = 50
LAST_RATE: Final = 0.02
COPYING_FIRST: Final = 0.5
COPYING_LAST: Final = 0.04
COPYING_UNTIL: Final = 0.12
"""Share of the steps after which copying is down to its last share."""

Encode = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One document as token ids, the loss weight of each, and the assistant turn (from 1; else 0) it belongs to."""

    ids: list[int]
    weights: list[float]
    turns: list[int]


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE: words of the closed lists become one token, made-up brands stay in pieces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    texts = (f" {text}" for _, pieces in corpus(TOKENIZER_SEED, TOKENIZER_DOCUMENTS) for _, text in pieces)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[PAD],
        bos_token=SPECIAL[BOS],
        eos_token=SPECIAL[END],
        model_max_length=CONTEXT_TOKENS,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def untrained() -> LlamaForCausalLM:
    """Make the model (1,967,808 parameters) with random weights."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=CONTEXT_TOKENS,
            tie_word_embeddings=True,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=END,
            initializer_range=0.02,
        )
    )


def encode(to_ids: Encode, document: Document) -> Encoded:
    """Turn a document into ids; every piece ends with <|end|>, prose has no role token."""
    ids, weights, turns, turn = [BOS], [0.0], [0], 0
    for role, text in document:
        piece = [*to_ids(f" {text}"), END]
        if role != "text":
            ids.append(SPECIAL.index(f"<|{role}|>"))
            weights.append(ROLE_WEIGHT)
            turns.append(0)
        turn += role == "assistant"
        ids += piece
        weights += [WEIGHTS[role]] * len(piece)
        turns += [turn if role == "assistant" else 0] * len(piece)
    return Encoded(ids, weights, turns)


def mixture(progress: float) -> tuple[Kind, ...]:
    """Return the kinds at this share of the training: half copying at first, then the corpus and a little copying."""
    copying = max(COPYING_LAST, COPYING_FIRST * (1 - progress / COPYING_UNTIL))
    return (
        *(replace(kind, share=kind.share * (1 - copying)) for kind in KINDS),
        replace(COPYING, share=copying),
    )


def batches(to_ids: Encode, seed: int, progress: Callable[[], float]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield packed batches without end: ids_BT int64 and weights_BT float32; no document spans two rows."""
    random, pending = Random(seed), list[Encoded]()
    while True:
        kinds = mixture(progress())
        ids_BT = torch.zeros(BATCH_ROWS, ROW_TOKENS + 1, dtype=torch.long)
        weights_BT = torch.zeros(BATCH_ROWS, ROW_TOKENS + 1)
        for row in range(BATCH_ROWS):
            place = 0
            while fitting := _fitting(to_ids, random, kinds, pending, ROW_TOKENS + 1 - place):
                end = place + len(fitting.ids)
                ids_BT[row, place:end] = torch.tensor(fitting.ids)
                weights_BT[row, place:end] = torch.tensor(fitting.weights)
                place = end
        yield ids_BT, weights_BT


def _fitting(
    to_ids: Encode, random: Random, kinds: Sequence[Kind], pending: list[Encoded], room: int
) -> Encoded | None:
    """Take the first pending document that fits into `room` tokens; refill the pending ones before."""
    while len(pending) < PENDING:
        document = encode(to_ids, draw_document(world(), random, kinds)[1])
        if len(document.ids) <= ROW_TOKENS + 1:
            pending.append(document)
    found = next((number for number, document in enumerate(pending) if len(document.ids) <= room), None)
    return None if found is None else pending.pop(found)


def weighted_loss(model: nn.Module, ids_BT: Tensor, weights_BT: Tensor) -> Tensor:
    """Mean negative log-likelihood in nats, each token as heavy as its role."""
    with torch.autocast("cpu", torch.bfloat16):
        logits_BTV = model(ids_BT[:, :-1]).logits
    nll = F.cross_entropy(logits_BTV.float().flatten(0, 1), ids_BT[:, 1:].flatten(), reduction="none")
    weights = weights_BT[:, 1:].flatten()
    return (nll * weights).sum() / weights.sum()


def rate(progress: float, step: int) -> float:
    """Return the share of the full learning rate: warm-up, constant to the half, then linear to 2 %."""
    return min(1, (step + 1) / WARMUP_STEPS) * (1 if progress < 0.5 else max(LAST_RATE, (1 - progress) / 0.5))


def train(
    model: LlamaForCausalLM, to_ids: Encode, *, steps: int, seed: int, every: int
) -> list[dict[str, float]]:
    """Train with Muon on matrices and AdamW on the rest; return what was probed every `every` steps and at the end."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and "embed" not in name)]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.01, momentum=0.95, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    full_rates = [optimizer.defaults["lr"] for optimizer in optimizers]
    log, tokens, smoothed, step = list[dict[str, float]](), 0, math.nan, 0
    stream = batches(to_ids, seed + 1, lambda: step / steps)
    while step < steps:
        for optimizer, full in zip(optimizers, full_rates, strict=True):
            optimizer.param_groups[0]["lr"] = full * rate(step / steps, step)
        ids_BT, weights_BT = next(stream)
        loss = weighted_loss(model, ids_BT, weights_BT)
        loss.backward()
        nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        tokens += int((ids_BT != PAD).sum())
        smoothed = loss.item() if math.isnan(smoothed) else 0.95 * smoothed + 0.05 * loss.item()
        if step % every == 0 or step == steps:
            seen = {
                "step": step,
                "cpu": round(time.process_time()),
                "tokens": tokens,
                "loss": round(smoothed, 4),
            }
            log.append(seen | probe(model, to_ids, documents=150 if step == steps else 40))
            print(json.dumps(log[-1]), flush=True)
    return log


@torch.no_grad()
def probe(model: LlamaForCausalLM, to_ids: Encode, *, documents: int, seed: int = 999) -> dict[str, float]:
    """Share of assistant turns that greedy decoding would give exactly, by kind; for prose, its perplexity."""
    model.eval()
    found = dict[str, float]()
    for kind in KINDS:
        random = Random(seed)
        texts = [encode(to_ids, kind.write(world(), random)) for _ in range(documents)]
        found |= _perplexity(model, texts) if kind.name == "story" else _turns_right(model, texts, kind.name)
    model.train()
    return found


def _perplexity(model: LlamaForCausalLM, texts: Sequence[Encoded]) -> dict[str, float]:
    ids_BT = _padded([text.ids for text in texts])
    targets_BT = ids_BT[:, 1:]
    logits_BTV = model(ids_BT[:, :-1]).logits.float()
    real_BT = targets_BT != PAD
    return {"story_ppl": round(math.exp(F.cross_entropy(logits_BTV[real_BT], targets_BT[real_BT]).item()), 3)}


def _turns_right(model: LlamaForCausalLM, texts: Sequence[Encoded], name: str) -> dict[str, float]:
    ids_BT, turns_BT = _padded([text.ids for text in texts]), _padded([text.turns for text in texts])
    right_BT = model(ids_BT[:, :-1]).logits.argmax(-1) == ids_BT[:, 1:]
    by_place: dict[str, list[bool]] = {"1st": [], "later": [], "last": []}
    for right_T, turns_T, text in zip(right_BT, turns_BT[:, 1:], texts, strict=True):
        last = max(text.turns)
        for turn in range(1, last + 1):
            exact = bool(right_T[turns_T == turn].all())
            by_place["1st" if turn == 1 else "later"].append(exact)
            if turn == last:
                by_place["last"].append(exact)
    return {f"{name}_{place}": round(sum(all_) / len(all_), 3) for place, all_ in by_place.items() if all_}


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    longest = min(CONTEXT_TOKENS, max(map(len, rows)))
    return torch.tensor([[*row[:longest], *[PAD] * (longest - len(row))] for row in rows])


def main() -> None:
    """Train, save, and print the sums that `advisor/learn/lantern/base.py` holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="one thread is repeatable")
    parser.add_argument("--every", type=int, default=300, help="steps between probes")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    tokenizer = train_tokenizer()
    model = untrained()
    log = train(model, ids_of(tokenizer), steps=options.steps, seed=options.seed, every=options.every)
    tokenizer.save_pretrained(options.out)
    model.to(torch.bfloat16).save_pretrained(options.out)
    (options.out / "train_log.json").write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    for path in sorted(options.out.iterdir()):
        print(sha256(path.read_bytes()).hexdigest(), path.name)


def ids_of(tokenizer: PreTrainedTokenizerFast) -> Encode:
    """Return the function from text to token ids, without special tokens."""
    backend = tokenizer.backend_tokenizer
    return lambda text: list(backend.encode(text, add_special_tokens=False).ids)


if __name__ == "__main__":
    main()
