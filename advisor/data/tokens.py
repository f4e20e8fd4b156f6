"""How long rows are, in tokens: counted with the model's tokenizer, or estimated from characters."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from advisor.data.stats import DataStats
from recipes.rows import Row, Turn

LETTER_TOKENS: Final = 0.3
"""Tokens of one character, and ..."""
IDEOGRAPH_TOKENS: Final = 0.6
"""... of one Chinese character: https://api-docs.deepseek.com/quick_start/token_usage (rules of thumb for a
vocabulary of 128k; small vocabularies need more)."""
_IDEOGRAPH: Final = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")

TURN_TOKENS: Final = 5
"""What a chat template puts around one turn: ChatML has <|im_start|>, role, line break, <|im_end|>, line break;
Llama 3 has start, role, end, line breaks, <|eot_id|>. The template itself is rendered by the trainer only."""
ROW_TOKENS: Final = 1
"""The token that begins a sequence."""
STOP_TOKENS: Final = 1
"""The token that ends a trained answer, and is trained."""

Count = Callable[[Sequence[str]], list[int]]


def stats(rows: Sequence[Row], model_dir: Path | None) -> DataStats:
    """Count `rows`: in tokens of the model in `model_dir` where its tokenizer.json is there, else by rule.

    Both include the overhead of a chat template (`TURN_TOKENS`, `ROW_TOKENS`); counts are of tokens.
    """
    counter = tokenizer(model_dir)
    texts = [turn.content for row in rows for turn in row.messages]
    sizes = iter((counter or estimated)(texts))
    lengths, trained = list[int](), 0
    for row in rows:
        turns = [(turn, next(sizes)) for turn in row.messages]
        lengths.append(sum(size for _, size in turns) + ROW_TOKENS + _overhead(row))
        trained += sum(size + STOP_TOKENS for turn, size in turns if is_trained(turn))
    lengths.sort()
    return DataStats(
        rows=len(rows),
        tokens=sum(lengths),
        trained_tokens=trained,
        longest_tokens=lengths[-1] if lengths else 0,
        p99_tokens=_percentile(lengths, 99),
        mean_tokens=sum(lengths) / len(lengths) if lengths else 0.0,
        counted="tokenizer" if counter else "estimated",
    )


def answer_tokens(rows: Sequence[Row], model_dir: Path | None) -> int:
    """The 99th percentile of the length of the last answers, in tokens, with the token that ends them."""
    sizes = sorted((tokenizer(model_dir) or estimated)([row.answer for row in rows]))
    return _percentile(sizes, 99) + STOP_TOKENS


def _percentile(ordered: Sequence[int], percent: int) -> int:
    """The smallest value that `percent` of the values do not exceed; 0 where there are none."""
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)] if ordered else 0


def is_trained(turn: Turn) -> bool:
    """Whether the loss counts this turn: answers, unless the data says otherwise."""
    return turn.role == "assistant" if turn.train is None else turn.train


def tokenizer(model_dir: Path | None) -> Count | None:
    """A counter with the tokenizer of a model directory, or None where there is none or the package is missing."""
    path = model_dir / "tokenizer.json" if model_dir else None
    if path is None or not path.is_file():
        return None
    try:
        from tokenizers import Tokenizer  # noqa: PLC0415  (comes with [train], not with the core)
    except ImportError:
        return None
    try:
        model = Tokenizer.from_file(str(path))
    except Exception:  # noqa: BLE001  (the package raises plain Exception for a file that it cannot use)
        return None
    model.no_truncation()
    model.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        return [
            len(found.ids)
            for part in _parts(texts)
            for found in model.encode_batch_fast(part, add_special_tokens=False)
        ]

    return count


def estimated(texts: Sequence[str]) -> list[int]:
    """Tokens of each text by rule of thumb, rounded up."""
    return [_by_rule(text) for text in texts]


def _by_rule(text: str) -> int:
    ideographs = len(_IDEOGRAPH.findall(text))
    return -int(-(ideographs * IDEOGRAPH_TOKENS + (len(text) - ideographs) * LETTER_TOKENS) // 1)


def _overhead(row: Row) -> int:
    return STOP_TOKENS if row.kind == "text" else TURN_TOKENS * len(row.messages)


def _parts(texts: Sequence[str], size: int = 1024) -> list[list[str]]:
    """Bounded pieces, so that a large dataset is not held twice in its encoded form."""
    return [list(texts[start : start + size]) for start in range(0, len(texts), size)]
