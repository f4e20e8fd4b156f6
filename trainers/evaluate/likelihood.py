"""How likely the reference is: its negative log-likelihood in one forward pass, without generation.

Shapes: B rows, K last tokens of a row, V vocabulary.
"""

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.data import Example
from trainers.evaluate.padding import Padded, by_length, left
from trainers.evaluate.subject import Subject

BUDGET_TOKENS: Final = 2_048
"""Padded tokens of one pass: their logits over a vocabulary of 150,000 take 0.6 GB in bfloat16."""


@dataclass(frozen=True, slots=True)
class Read:
    """One row, read: nats of its reference, over how many tokens."""

    nats: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Reading:
    """All rows, and how fast they went: tokens without padding, and seconds of the forward passes."""

    rows: tuple[Read, ...]
    tokens: int
    seconds: float


def read(subject: Subject, rows: Sequence[Example]) -> Reading:
    """The likelihood of each row's trained tokens. A first token is predicted by nothing and never counts."""
    found: dict[int, Read] = {}
    seconds = 0.0
    for batch in by_length([len(row.ids) for row in rows], BUDGET_TOKENS):
        padded = left([rows[i].ids for i in batch], subject.device)
        keep = 1 + max(_reach(rows[i].trained) for i in batch)
        start = time.perf_counter()
        logits_BKV = _logits(subject, padded, keep)
        _wait(subject)
        seconds += time.perf_counter() - start
        for place, i in enumerate(batch):
            found[i] = _row(logits_BKV[place], rows[i].ids, rows[i].trained)
    tokens = sum(len(row.ids) for row in rows)
    return Reading(tuple(found[i] for i in range(len(rows))), tokens, seconds)


def _reach(marked: Sequence[bool]) -> int:
    """How far back from its end a row is marked."""
    return len(marked) - next((place for place, mark in enumerate(marked) if mark), len(marked))


def _logits(subject: Subject, padded: Padded, keep: int) -> Tensor:
    """Logits of the last `keep` places, or of all where the model cannot choose.

    Padding is on the left, so that all answers end together and the head need not see the prompts.
    """
    wishes = {"position_ids": padded.positions_BT, "logits_to_keep": keep, "use_cache": False}
    known = inspect.signature(_inner(subject).forward).parameters
    granted = {name: wish for name, wish in wishes.items() if name in known}
    logits: Tensor = subject.model(input_ids=padded.ids_BT, attention_mask=padded.mask_BT, **granted).logits
    return logits


def _inner(subject: Subject) -> torch.nn.Module:
    """The model below an adapter: its `forward` says what it takes, the adapter's takes anything."""
    get = getattr(subject.model, "get_base_model", None)
    inner: torch.nn.Module = get() if get else subject.model
    return inner


def _row(logits_KV: Tensor, ids: Sequence[int], marked: Sequence[bool]) -> Read:
    """Sum one row in float32. Place k of the logits predicts the token after it."""
    shown = min(logits_KV.shape[0], len(ids))
    targets_K = torch.tensor(ids[len(ids) - shown + 1 :], device=logits_KV.device)
    chosen_K = torch.tensor(marked[len(ids) - shown + 1 :], dtype=torch.bool, device=logits_KV.device)
    if not chosen_K.any():
        return Read(0.0, 0)
    predicted_KV = logits_KV[-shown:-1][chosen_K].float()
    nats = F.cross_entropy(predicted_KV, targets_K[chosen_K], reduction="sum")
    return Read(nats.item(), int(chosen_K.sum()))


def _wait(subject: Subject) -> None:
    """A GPU returns before it is done; the clock must not."""
    if subject.device.type == "cuda":
        torch.cuda.synchronize(subject.device)
