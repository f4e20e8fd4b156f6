"""Rows to token ids with a mask of what is trained.

The rule for a chat: an answer and the token that ends it are trained, everything else is not. Where the template
marks its answers (`{% generation %}`), the marks decide; elsewhere the prompt is rendered alone, and what follows
it is the answer, which is right only where the prompt's tokens are a prefix of the whole: that is tested on each
row. Masks are by position, never by id, so a padding token that is also the stop token loses nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, assert_never

from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from recipes.plan import Data
from recipes.rows import Row, Turn
from recipes.words import N_
from trainers.errors import SHOWN, DatasetError, MissingWeights

CHUNK_ROWS: Final = 1000
"""Rows a call of the tokenizer: enough for its threads, little enough for memory."""
PROBE: Final = "Zq"
"""An answer to find the end of a turn with; no template writes it by itself."""

PLAIN_TEMPLATE: Final = (
    "{{ bos_token or '' }}"
    "{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}Assistant:"
    "{% generation %}{{ ' ' + m['content'] + eos_token }}{% endgeneration %}"
    "{% elif m['role'] == 'user' %}{{ 'User: ' + m['content'] }}"
    "{% else %}{{ m['content'] }}{% endif %}"
    "{% if not loop.last or add_generation_prompt %}{{ '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For a base model without a template: plain words, since new control tokens would have to be learned first."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row, or one window of a text, in tokens; `trained[i]` says whether `ids[i]` is a target."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    row: Row

    @property
    def place(self) -> str:
        """Where the row came from, as `file:line`."""
        return place(self.row)


@dataclass(frozen=True, slots=True)
class Examples:
    """What is left to train on; `dropped` are the places of rows that were too long, `cut` of those that were cut.

    `last_only` are rows of which only the last answer is trained, because the template writes earlier ones
    differently when more follows.
    """

    kept: tuple[Example, ...]
    dropped: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    last_only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Flaw:
    """What is wrong with one row."""

    row: Row
    text: str
    values: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{place(self.row)}: {self.text.format(**self.values)}"


@dataclass(frozen=True, slots=True)
class _Draft:
    """A rendered row; for each trained turn, the text before its first and up to its last trained character.

    `exact`: the cuts were rendered by themselves, so their tokens must be prefixes of the whole.
    """

    row: Row
    text: str
    cuts: tuple[tuple[str, str], ...]
    exact: bool
    last_only: bool = False


@dataclass(frozen=True, slots=True)
class _Masked:
    """An example, and whether earlier answers had to be left out."""

    example: Example
    last_only: bool = False


def place(row: Row) -> str:
    """Where a row came from, as `file:line`."""
    return f"{row.source.file}:{row.source.line}"


def read_rows(path: Path) -> list[Row]:
    """Read a file of rows, JSONL.

    Raises:
        DatasetError: With every line that is not a row (the first ones, and how many).
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DatasetError(
            N_("the rows cannot be read: {reason}"),
            remedy=N_("write the recipe anew with `advisor recipe`: it writes the rows beside it"),
            where=str(path),
            reason=error.strerror or str(error),
        ) from None
    rows: list[Row] = []
    wrong: list[str] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(Row.model_validate_json(line))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"]))
            wrong.append(f"{path.name}:{number}: {key + ': ' if key else ''}{first['msg']}")
    if wrong:
        raise DatasetError(
            N_("{count} line(s) are not rows"),
            remedy=N_("convert the data set with `advisor data convert`; trainers read rows only"),
            where=str(path),
            places=wrong,
            count=len(wrong),
        )
    return rows


def ensure_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Give a tokenizer without a chat template our plain one; whether that was done.

    Raises:
        MissingWeights: The tokenizer has neither a template nor a token that ends a text.
    """
    if tokenizer.chat_template:
        return False
    if tokenizer.eos_token is None:
        raise MissingWeights(
            N_(
                "the tokenizer has no chat template and no end-of-sequence token, so no answer could ever end"
            ),
            remedy=N_(
                "set `eos_token` in its tokenizer_config.json, or take the tokenizer of an instruct model"
            ),
            where=str(tokenizer.name_or_path),
        )
    tokenizer.chat_template = PLAIN_TEMPLATE
    return True


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end an answer: the end of the sequence, and the end of a turn in the template."""
    ends = {tokenizer.eos_token_id}
    text = _render(tokenizer, [{"role": "user", "content": "a"}, {"role": "assistant", "content": PROBE}])
    added = tokenizer.added_tokens_decoder
    tail = tokenizer(text[text.rindex(PROBE) + len(PROBE) :], add_special_tokens=False)["input_ids"]
    ends |= set([i for i in tail if i in added][:1])
    return frozenset(i for i in ends if isinstance(i, int))


def prompt_ids(tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn]) -> list[int]:
    """What the model reads before it answers: the turns, and the head of an answer."""
    text = _render(tokenizer, _messages(turns), answer=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def masked(tokenizer: PreTrainedTokenizerBase, row: Row) -> Example:
    """Tokenise one row and mark what is trained.

    Raises:
        DatasetError: Nothing is trained, the answer does not end, or the template contradicts itself.
    """
    (found,) = _masks(tokenizer, [row])
    if isinstance(found, _Flaw):
        raise _unusable([found])
    return found.example


def examples(tokenizer: PreTrainedTokenizerBase, rows: Iterable[Row], data: Data) -> Examples:
    """Tokenise rows; texts become windows of `data.length_tokens`, conversations beyond it what `data.too_long` says.

    Raises:
        DatasetError: With all rows that cannot be trained (the first ones, and how many).
    """
    kept: list[Example] = []
    flaws: list[_Flaw] = []
    dropped: list[str] = []
    cut: list[str] = []
    last_only: list[str] = []
    for found in _masks(tokenizer, rows):
        if isinstance(found, _Flaw):
            flaws.append(found)
        elif found.example.row.kind == "text":
            kept += windows(found.example, data.length_tokens)
        elif len(found.example.ids) > data.length_tokens:
            parts = list(_shortened(found.example, data))
            kept += parts
            (cut if parts else dropped).append(found.example.place)
        else:
            kept.append(found.example)
            last_only += [found.example.place] if found.last_only else []
    if flaws:
        raise _unusable(flaws)
    return Examples(tuple(kept), tuple(dropped), tuple(cut), tuple(last_only))


def _shortened(example: Example, data: Data) -> Iterator[Example]:
    """What is left of a row that is too long: nothing, its beginning, or parts; none without a trained token.

    Cutting in an answer leaves it without its end token, so nothing false is learned of where answers end.
    """
    match data.too_long:
        case "refuse" | "drop":
            return
        case "truncate":
            limit = data.length_tokens
            parts = iter([Example(example.ids[:limit], example.trained[:limit], example.row)])
        case "split":
            parts = windows(example, data.length_tokens)
        case _:
            assert_never(data.too_long)
    yield from (part for part in parts if any(part.trained))


def windows(example: Example, length_tokens: int) -> Iterator[Example]:
    """Split a document; windows share one token, so that each token but the first is a target exactly once."""
    for start in range(0, max(1, len(example.ids) - 1), max(1, length_tokens - 1)):
        part = slice(start, start + length_tokens)
        trained = (False, *example.trained[part][1:])
        yield Example(example.ids[part], trained, example.row)


def check_lengths(found: Examples, data: Data) -> None:
    """Rows that are too long are refused, or left out if the plan says so; some must be left.

    Raises:
        DatasetError: With the places of all that are too long.
    """
    dropped, left = found.dropped, len(found.kept)
    if dropped and (data.too_long == "refuse" or not left):
        raise DatasetError(
            N_("{count} row(s) are longer than {limit} tokens"),
            remedy=N_(
                'raise data.length_tokens, shorten the rows, or set data.too_long to "drop", "truncate" or "split"'
            ),
            where=data.train,
            places=dropped,
            count=len(dropped),
            limit=data.length_tokens,
        )
    if not left:
        raise DatasetError(
            N_("there is no row to train on"),
            remedy=N_("write the recipe anew with `advisor recipe --data FILE`"),
            where=data.train,
        )


def _unusable(flaws: Sequence[_Flaw]) -> DatasetError:
    return DatasetError(
        N_("{count} row(s) cannot be trained"),
        remedy=N_("mend or remove these rows; see what is trained with `advisor data preview`"),
        where=flaws[0].row.source.file,
        places=[str(flaw) for flaw in flaws[:SHOWN]],
        count=len(flaws),
    )


def _masks(tokenizer: PreTrainedTokenizerBase, rows: Iterable[Row]) -> Iterator[_Masked | _Flaw]:
    ends = stop_ids(tokenizer)
    rest = iter(rows)
    while chunk := list(islice(rest, CHUNK_ROWS)):
        drafts = [_draft(tokenizer, row) for row in chunk]
        yield from _tokenise(tokenizer, drafts, ends)


def _draft(tokenizer: PreTrainedTokenizerBase, row: Row) -> _Draft | _Flaw:
    """Render one row and find the turns to train."""
    if (control := _control_token(tokenizer, row)) is not None:
        return _Flaw(row, N_("the text holds the control token {token} of this model"), {"token": control})
    if row.kind == "text":
        return _Draft(row, row.answer, (("", row.answer),), exact=False)
    try:
        by_marks = _marked(tokenizer, row) if _has_marks(tokenizer) else None
        return by_marks or _by_prefix(tokenizer, row)
    except Exception as error:  # noqa: BLE001  (a template refuses with whatever its Jinja raises)
        return _Flaw(row, N_("the chat template refuses it: {reason}"), {"reason": str(error)[:200]})


def _marked(tokenizer: PreTrainedTokenizerBase, row: Row) -> _Draft | None:
    """Cut at the template's own marks; None where they do not fit the turns that are trained."""
    answers = [turn for turn in row.messages if turn.role == "assistant"]
    if any(turn.train and turn.role != "assistant" for turn in row.messages):
        return None
    special: dict[str, Any] = dict(tokenizer.special_tokens_map)
    rendered: Any = render_jinja_template(  # annotated as text, and returns texts and spans
        conversations=[_messages(row.messages)],
        chat_template=tokenizer.chat_template,
        return_assistant_tokens_mask=True,
        **special,
    )
    (text,), (spans,) = rendered
    if len(spans) != len(answers):
        return None
    cuts = [(text[:a], text[:b]) for (a, b), turn in zip(spans, answers, strict=True) if _trains(turn)]
    return _Draft(row, text, tuple(cuts), exact=False)


def _by_prefix(tokenizer: PreTrainedTokenizerBase, row: Row) -> _Draft | _Flaw:
    """Cut where the prompt of a turn ends, and where the turn itself ends, each rendered alone."""
    text = _render(tokenizer, _messages(row.messages))
    last = max((i for i, turn in enumerate(row.messages) if _trains(turn)), default=None)
    cuts: list[tuple[str, str]] = []
    last_only = False
    for i, turn in enumerate(row.messages):
        if not _trains(turn):
            continue
        head = _render(tokenizer, _messages(row.messages[:i]), answer=turn.role == "assistant") if i else ""
        upto = _render(tokenizer, _messages(row.messages[: i + 1]))
        if text.startswith(upto) and upto.startswith(head):
            cuts.append((head, upto))
        elif i == last or turn.train:
            return _Flaw(row, N_("the chat template writes the prompt differently when an answer follows it"))
        else:
            last_only = True
    return _Draft(row, text, tuple(cuts), exact=True, last_only=last_only)


def _tokenise(
    tokenizer: PreTrainedTokenizerBase, drafts: Sequence[_Draft | _Flaw], ends: frozenset[int]
) -> Iterator[_Masked | _Flaw]:
    """Tokenise a chunk in a few calls, and hold each mask against the rules."""
    usable = [draft for draft in drafts if isinstance(draft, _Draft)]
    cut = iter(
        _encode(tokenizer, [text for draft in usable if draft.exact for c in draft.cuts for text in c])
    )
    marked = [draft for draft in usable if not draft.exact and draft.row.kind == "sft"]
    spans = iter(_offsets(tokenizer, [draft.text for draft in marked]))
    exact = iter(_encode(tokenizer, [draft.text for draft in usable if draft.exact]))
    texts = iter(_encode(tokenizer, [d.text for d in usable if d.row.kind == "text"], special=True))
    for draft in drafts:
        if isinstance(draft, _Flaw):
            yield draft
        elif draft.row.kind == "text":
            yield _whole_text(tokenizer, draft.row, next(texts))
        elif draft.exact:
            pairs = [(next(cut), next(cut)) for _ in draft.cuts]
            yield _held(tokenizer, draft, next(exact), pairs, ends)
        else:
            ids, offsets = next(spans)
            pairs = [
                (ids[: _before(offsets, head)], ids[: _before(offsets, upto)]) for head, upto in draft.cuts
            ]
            yield _held(tokenizer, draft, ids, pairs, ends)


def _held(
    tokenizer: PreTrainedTokenizerBase,
    draft: _Draft,
    ids: list[int],
    cuts: Sequence[tuple[list[int], list[int]]],
    ends: frozenset[int],
) -> _Masked | _Flaw:
    """Make the mask and hold it against the rules: a prefix, one beginning, an end that is trained."""
    trained = [False] * len(ids)
    for head, upto in cuts:
        if ids[: len(head)] != head or ids[: len(upto)] != upto:
            return _Flaw(draft.row, N_("the tokens of the prompt change when an answer follows it"))
        end = max((i + 1 for i in range(len(head), len(upto)) if ids[i] in ends), default=None)
        if end is None:
            return _Flaw(
                draft.row, N_("the template does not end the answer: no stop token would be learned")
            )
        trained[len(head) : end] = [True] * (end - len(head))
    if not any(trained[1:]):
        return _Flaw(draft.row, N_("no token of it would be trained"))
    if tokenizer.bos_token_id is not None and tokenizer.bos_token_id not in ends:
        begins = ids.count(tokenizer.bos_token_id)
        if begins > 1:
            return _Flaw(draft.row, N_("it begins {count} times ({token})"), _begins(tokenizer, begins))
    return _Masked(Example(tuple(ids), (False, *trained[1:]), draft.row), draft.last_only)


def _begins(tokenizer: PreTrainedTokenizerBase, count: int) -> dict[str, str]:
    return {"count": str(count), "token": str(tokenizer.bos_token)}


def _whole_text(tokenizer: PreTrainedTokenizerBase, row: Row, ids: list[int]) -> _Masked | _Flaw:
    """A text: every token but the first is a target, the end of the sequence too."""
    if tokenizer.eos_token_id is not None and ids[-1:] != [tokenizer.eos_token_id]:
        ids = [*ids, tokenizer.eos_token_id]
    if len(ids) < 2:
        return _Flaw(row, N_("no token of it would be trained"))
    return _Masked(Example(tuple(ids), (False, *[True] * (len(ids) - 1)), row))


def _before(offsets: Sequence[tuple[int, int]], text: str) -> int:
    """How many tokens begin before the end of `text`, the beginning of the whole."""
    return sum(start < len(text) for start, _ in offsets)


def _encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special: bool = False
) -> list[list[int]]:
    """Token ids of each text; rendered text has its special tokens already."""
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=special)["input_ids"] if texts else []
    return found


def _offsets(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Token ids of each text, and the characters of each token."""
    if not texts:
        return []
    found = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    return list(zip(found["input_ids"], found["offset_mapping"], strict=True))


def _trains(turn: Turn) -> bool:
    return turn.role == "assistant" if turn.train is None else turn.train


def _has_marks(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template marks its answers; without a fast tokenizer the marks cannot be mapped to tokens."""
    template = tokenizer.chat_template
    return tokenizer.is_fast and isinstance(template, str) and bool(_MARK.search(template))


_MARK: Final = re.compile(r"\{%-?\s*generation\s*-?%\}")


def _control_token(tokenizer: PreTrainedTokenizerBase, row: Row) -> str | None:
    """A control token of the model that stands in the data: it would end a turn, or begin one."""
    texts = [turn.content for turn in row.messages]
    return next((token for token in tokenizer.all_special_tokens for text in texts if token in text), None)


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, answer: bool = False
) -> str:
    """The conversation as text; with the head of an answer, if one is to follow."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer)
    return str(text)
