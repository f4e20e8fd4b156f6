"""Convert any dataset that we know to rows: the one form of example that trainers read."""

import ast
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, assert_never

from pydantic import ValidationError

from advisor.data.detect import (
    CONTENT_KEYS,
    KEPT,
    PLACES,
    ROLE_KEYS,
    ROLES,
    Foreign,
    Format,
    Kinds,
    Match,
    detect,
    kinds,
    mapped,
)
from advisor.data.findings import Finding
from advisor.data.read import Record, read
from advisor.errors import DatasetError, UnknownName
from recipes.errors import Value
from recipes.rows import Check, Row, Source, Turn
from recipes.words import N_

SURE: Final = 0.95
"""Below this share of rows that clearly fit one format, a person should confirm the mapping."""
NAMED: Final = 3
"""How many problems an error names when no row is left."""
MAX_LITERAL: Final = 2**20
"""Characters of a list that is written as text: beyond this, Python's literal parser is not safe to call."""


@dataclass(frozen=True, slots=True)
class Converted:
    """The rows of a file, what was found on the way, the format of most rows, and how sure that is (0 to 1)."""

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    format: str
    confidence: float


class _Unusable(ValueError):
    """A record that fits a format but is no example."""

    def __init__(self, code: str, message: str, **values: Value) -> None:
        super().__init__(message)
        self.code, self.message, self.values = code, message, values


@dataclass(frozen=True, slots=True)
class _Example:
    """What a format gives: the turns, and what was mended to get them (code, message id)."""

    turns: tuple[Turn, ...]
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class _Reading:
    """One pass over a file: what was asked for, what was seen, what was found."""

    file: str
    wanted: Match | None
    findings: list[Finding] = field(default_factory=list)
    matches: dict[tuple[object, ...], Match | Foreign | None] = field(default_factory=dict)
    formats: Counter[str] = field(default_factory=Counter)
    rivals: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unused: set[str] = field(default_factory=set)
    rivalled: int = 0

    def find(self, line: int, code: str, message: str, values: Mapping[str, Value] | None = None) -> None:
        """Note something that is no reason to leave the row out."""
        self.findings.append(Finding(self.file, line, None, code, message, values or {}))


def convert(path: Path, *, mapping: Mapping[str, str] | None = None) -> Converted:
    """Read `path` and turn each record into a row, or into a finding that says why not.

    Each record is judged by its own shape; records of several formats in one file are all converted.

    Args:
        path: JSONL, JSON, CSV, TSV, Parquet or text.
        mapping: Which column fills which place (`detect.PLACES`), where a person knows better than the rules.

    Raises:
        DatasetError: The file cannot be read, or no row is left; names the first problems with their lines.
        UnknownName: The mapping names a place that there is not.
    """
    reading, rows = _Reading(str(path), _wanted(mapping)), list[Row]()
    for found in read(path):
        if isinstance(found, Finding):
            reading.findings.append(found)
            continue
        try:
            rows += _rows(found, reading)
        except _Unusable as problem:
            reading.findings.append(
                Finding(
                    str(path), found.line, None, problem.code, problem.message, problem.values, blocking=True
                )
            )
    if not rows:
        raise _nothing_usable(reading)
    _look_at_the_whole(reading)
    return Converted(tuple(rows), tuple(reading.findings), *_verdict(reading))


def _verdict(reading: _Reading) -> tuple[str, float]:
    """The format of most records, and its share; a record with a choice of columns counts half."""
    name, count = reading.formats.most_common(1)[0]
    seen = reading.formats.total() + sum(finding.blocking for finding in reading.findings)
    return name, round((count - min(count, reading.rivalled) / 2) / seen, 4)


def _wanted(mapping: Mapping[str, str] | None) -> Match | None:
    if not mapping:
        return None
    for place in mapping:
        if place not in PLACES:
            raise UnknownName(N_("place of a row"), place, PLACES, listing="advisor data convert --help")
    return mapped(mapping)


def _rows(record: Record, reading: _Reading) -> list[Row]:
    if isinstance(record.value, str):  # a part of a text file
        rows = _text_rows(record.value, reading.file, record.line, group=_digest(record.value))
        reading.formats["text"] += 1
        return rows
    if not isinstance(record.value, dict):
        raise _Unusable(
            "E_SHAPE",
            N_("an example is an object with named fields, not {value}"),
            value=_brief(record.value),
        )
    shape = kinds(record.value)
    match = reading.wanted or _match(shape, reading)
    cells = {key.strip().casefold(): value for key, value in record.value.items()}
    rows = _built(match, cells, record.line, reading)
    reading.formats[match.format] += 1
    reading.rivals |= match.rivals
    reading.rivalled += bool(match.rivals)
    reading.unused.update(key for key in shape if not _used(key, match))
    return rows


def _match(shape: Kinds, reading: _Reading) -> Match:
    """`detect`, once for each shape of a file."""
    key = tuple(shape.items())
    if key not in reading.matches:
        reading.matches[key] = detect(shape)
    match reading.matches[key]:
        case Match() as found:
            return found
        case Foreign(format=name, sentence=sentence):
            raise _Unusable("E_SHAPE", sentence, format=name)
        case None:
            raise _Unusable(
                "E_SHAPE",
                N_("fits no format: its columns are {columns}; name them with --map"),
                columns=", ".join(shape)[:200] or "(none)",
            )


def _used(key: str, match: Match) -> bool:
    return match.format == "rows" or key in {*match.columns.values(), *KEPT, "id"}


def _look_at_the_whole(reading: _Reading) -> None:
    """What only the whole file shows."""
    for place, columns in reading.rivals.items():
        text = N_(
            "several columns could be the {place}: {columns}; the first was taken (say otherwise with --map)"
        )
        reading.find(0, "W_COLUMNS", text, {"place": place, "columns": ", ".join(columns)})
    if reading.unused:
        text = N_("columns that nothing is learned from: {columns}")
        reading.find(0, "I_UNUSED", text, {"columns": ", ".join(sorted(reading.unused))[:400]})
    if len(reading.formats) > 1:
        said = ", ".join(f"{name} {count}" for name, count in reading.formats.most_common())
        reading.find(0, "W_MIXED", N_("the file mixes formats: {formats}"), {"formats": said})


def _nothing_usable(reading: _Reading) -> DatasetError:
    blocking = [finding for finding in reading.findings if finding.blocking]
    if not blocking:
        return DatasetError(
            N_("there is no example in the file"),
            remedy=N_("write one example a line into it, such as {example}"),
            where=reading.file,
            example='{"prompt": "...", "completion": "..."}',
        )
    first = "; ".join(f"{f.place}: {f.message.format(**f.values)}" for f in blocking[:NAMED])
    return DatasetError(
        N_("no example is usable ({count} problems): {first}"),
        remedy=N_("see all of them: advisor data check {path}"),
        where=blocking[0].place,
        count=len(blocking),
        first=first,
        path=reading.file,
    )


# --- the formats ------------------------------------------------------------------------------------------------


def _built(match: Match, cells: Mapping[str, object], line: int, reading: _Reading) -> list[Row]:
    """The rows that one record makes: one, or the pieces of a long document."""
    if match.format == "rows":
        return [_own(cells)]
    named = cells.get(match.columns.get("group", ""))
    group = "" if named is None else str(named)
    if match.format == "text":
        text = _text(cells, match, "text")
        return _text_rows(text, reading.file, line, group=group or _digest(text))
    example = _example(match.format, cells, match)
    turns, notes = _sound(example)
    for code, message in (*example.notes, *notes):
        reading.find(line, code, message)
    source = Source(file=reading.file, line=line, format=match.format, group=group or prompt_key(turns[:-1]))
    return [Row(messages=turns, checks=_checks(cells), context=_context(cells, match), source=source)]


def _example(name: Format, cells: Mapping[str, object], match: Match) -> _Example:
    match name:
        case "chat":
            return _chat(cells, match)
        case "alpaca":
            return _alpaca(cells, match)
        case "prompt_completion":
            return _prompt_completion(cells, match)
        case "text" | "rows":  # have no turns to put together
            raise AssertionError(name)
        case _:
            assert_never(name)


def _own(cells: Mapping[str, object]) -> Row:
    try:
        return Row.model_validate_json(json.dumps(cells))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _Unusable(
            "E_SHAPE",
            N_("not a row of ours: {key}: {reason}"),
            key=".".join(map(str, first["loc"])),
            reason=first["msg"],
        ) from None


def _text_rows(text: str, file: str, line: int, *, group: str) -> list[Row]:
    """A document as rows of one group: the trainer makes windows of tokens, so only very long ones are parted here."""
    source = Source(file=file, line=line, format="text", group=group)
    return [
        Row(kind="text", messages=(Turn(role="assistant", content=piece),), source=source)
        for piece in _pieces(_encodable(text))
    ]


def _pieces(text: str) -> Iterator[str]:
    """Parts of at most `MAX_PROSE` characters, cut at white space where there is some."""
    while len(text) > MAX_PROSE:
        cut = max(text.rfind(mark, MAX_PROSE // 2, MAX_PROSE) for mark in "\n ") + 1 or MAX_PROSE
        yield text[:cut]
        text = text[cut:]
    yield text


def _prompt_completion(cells: Mapping[str, object], match: Match) -> _Example:
    system = _maybe(cells, match, "system")
    if task := _maybe(cells, match, "task"):
        system = "\n".join(filter(None, (system, f"Task: {task}")))
    return _single_turn(system, (), _text(cells, match, "prompt"), cells, match, "completion")


def _alpaca(cells: Mapping[str, object], match: Match) -> _Example:
    """The prompt is the instruction, a line break and the input, as LLaMA-Factory joins them."""
    prompt = "\n".join(filter(None, (_text(cells, match, "instruction"), _maybe(cells, match, "input"))))
    return _single_turn(
        _maybe(cells, match, "system"), _history(cells, match), prompt, cells, match, "output"
    )


def _single_turn(
    system: str, history: tuple[Turn, ...], prompt: str, cells: Mapping[str, object], match: Match, place: str
) -> _Example:
    start = (Turn(role="system", content=system),) if system else ()
    answer = _text(cells, match, place)
    kept = cells.get(match.columns[place])
    notes = () if isinstance(kept, str) else (("I_TEXT", N_("the answer is no text; it is written as JSON")),)
    turns = (*start, *history, Turn(role="user", content=prompt), Turn(role="assistant", content=answer))
    return _Example(turns, notes)


def _history(cells: Mapping[str, object], match: Match) -> tuple[Turn, ...]:
    """Earlier rounds, a list of [question, answer]; their answers are trained on too."""
    rounds = cells.get(match.columns.get("history", "")) or []
    turns = list[Turn]()
    for part in rounds if isinstance(rounds, list) else [rounds]:
        match part:
            case [str() as asked, str() as answered]:
                turns += [Turn(role="user", content=asked), Turn(role="assistant", content=answered)]
            case _:
                raise _Unusable(
                    "E_SHAPE", N_("history is a list of [question, answer], not {value}"), value=_brief(part)
                )
    return tuple(turns)


def _chat(cells: Mapping[str, object], match: Match) -> _Example:
    messages = _unfolded(cells.get(match.columns["messages"]))
    turns = list[Turn]()
    if system := _maybe(cells, match, "system"):
        turns.append(Turn(role="system", content=system))
    for number, message in enumerate(messages, start=1):
        turns += _turns(message, number)
    return _Example(tuple(turns))


def _unfolded(value: object) -> list[object]:
    """A list of messages; also one that is written as text, as JSON or as Python does it."""
    if isinstance(value, str):
        value = _parsed(value)
    if not isinstance(value, list) or not value:
        raise _Unusable("E_SHAPE", N_("the messages are no list, but {value}"), value=_brief(value))
    return value


def _parsed(text: str) -> object:
    """The value that `text` spells, or the text itself."""
    if len(text) <= MAX_LITERAL:
        for parse in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
                return parse(text)
    return text


def _turns(message: object, number: int) -> list[Turn]:
    """One message as a turn, or a pair {human, assistant} as two."""
    if not isinstance(message, dict):
        raise _Unusable(
            "E_SHAPE", N_("message {number} is no object: {value}"), number=number, value=_brief(message)
        )
    cells = {str(key).casefold(): value for key, value in message.items()}
    name = next((cells[key] for key in ROLE_KEYS if key in cells), None)
    if name is None and {"human", "assistant"} <= cells.keys():
        asked, answered = _content(cells["human"], number), _content(cells["assistant"], number)
        return [Turn(role="user", content=asked), Turn(role="assistant", content=answered)]
    role = ROLES.get(name.strip().casefold()) if isinstance(name, str) else None
    content = _content(next((cells[key] for key in CONTENT_KEYS if key in cells), None), number)
    if cells.get("tool_calls") or role == "tool":
        raise _Unusable(
            "E_ROLES",
            N_("message {number} calls a tool or answers for one; tools cannot be trained here"),
            number=number,
        )
    match role:
        case "user" | "assistant" | "system":
            return [Turn(role=role, content=content, train=_wish(cells) if role == "assistant" else None)]
        case _:
            raise _Unusable(
                "E_ROLES",
                N_("message {number} has the unknown role {role!r}"),
                number=number,
                role=_brief(name),
            )


def _wish(cells: Mapping[str, object]) -> bool | None:
    """What the data says of training a turn: `weight` (OpenAI), `train` (Axolotl), `loss` (ms-swift)."""
    said = next((cells[key] for key in ("train", "weight", "loss") if cells.get(key) is not None), None)
    return False if said == 0 else None


def _content(value: object, number: int) -> str:
    """The text of a message: text, or a list of parts that are all text."""
    match value:
        case str():
            return _prose(value)
        case None:
            return ""
        case list():
            parts = [part.get("text") if isinstance(part, dict) else part for part in value]
            if all(isinstance(part, str) for part in parts):
                return _prose("".join(map(str, parts)))
    raise _Unusable(
        "E_SHAPE",
        N_("message {number} holds something other than text: {value}"),
        number=number,
        value=_brief(value),
    )


def _sound(example: _Example) -> tuple[tuple[Turn, ...], tuple[tuple[str, str], ...]]:
    """The turns in an order that every chat template takes, or why there is none."""
    system = tuple(turn for turn in example.turns if turn.role == "system")
    turns = [turn for turn in example.turns if turn.role != "system"]
    if system and example.turns[: len(system)] != system:
        raise _Unusable("E_ROLES", N_("a system message stands in the middle of the conversation"))
    if not turns or turns[0].role != "user":
        raise _Unusable("E_ROLES", N_("the conversation does not begin with the user"))
    notes = list[tuple[str, str]]()
    while turns and turns[-1].role != "assistant":
        turns.pop()
        notes.append(("W_ROLES", N_("the last question has no answer; it is left out")))
    if not turns:
        raise _Unusable("E_ROLES", N_("there is no answer in the conversation"))
    if any(one.role == two.role for one, two in pairwise(turns)):
        turns = _joined(turns)
        notes.append(("W_ROLES", N_("neighbouring messages of the same role were joined")))
    if any(not turn.content.strip() for turn in turns if turn.role == "user"):
        raise _Unusable("E_SHAPE", N_("the prompt is empty"))
    if any(
        not turn.content.strip() for turn in turns if turn.role == "assistant" and turn.train is not False
    ):
        raise _Unusable("E_SHAPE", N_("the answer is empty"))
    if turns[-1].train is False and all(turn.train is False for turn in turns if turn.role == "assistant"):
        raise _Unusable("E_MASK", N_("no answer of the conversation is to be trained"))
    whole = "\n\n".join(turn.content for turn in system)
    return ((Turn(role="system", content=whole),) if whole.strip() else ()) + tuple(turns), tuple(notes)


def _joined(turns: Sequence[Turn]) -> list[Turn]:
    kept = list[Turn]()
    for turn in turns:
        if kept and kept[-1].role == turn.role:
            content = f"{kept[-1].content}\n\n{turn.content}"
            kept[-1] = kept[-1].model_copy(update={"content": content})
        else:
            kept.append(turn)
    return kept


# --- cells ------------------------------------------------------------------------------------------------------


def _text(cells: Mapping[str, object], match: Match, place: str) -> str:
    """The text in `place`; what is no text is written as JSON."""
    column = match.columns[place]
    if column not in cells:
        raise _Unusable("E_SHAPE", N_("the column {column} is missing"), column=column)
    match cells[column]:
        case None:
            raise _Unusable("E_SHAPE", N_("the column {column} is empty"), column=column)
        case str() as text if not text.strip():
            raise _Unusable("E_SHAPE", N_("the column {column} is empty"), column=column)
        case str() as text:
            return text if place == "text" else _prose(text)
        case value:
            return _prose(_json(value, column))


def _maybe(cells: Mapping[str, object], match: Match, place: str) -> str:
    column = match.columns.get(place)
    value = cells.get(column) if column else None
    return "" if value is None or value == "" else _text(cells, match, place)


def _json(value: object, column: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):  # dates, bytes and numbers of Parquet files
        raise _Unusable(
            "E_SHAPE", N_("the column {column} holds {value}, no text"), column=column, value=_brief(value)
        ) from None


MAX_PROSE: Final = 65_536
"""Characters of one text in a row (`recipes.plan.Prose`)."""


def _prose(text: str) -> str:
    if len(text) > MAX_PROSE:
        raise _Unusable(
            "E_SHAPE",
            N_("a text of {characters} characters; at most {most} fit into a row: split it"),
            characters=len(text),
            most=MAX_PROSE,
        )
    return _encodable(text)


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Unusable("E_PARSE", N_("half of a surrogate pair (\\ud800 to \\udfff) stands alone")) from None
    return text


def _checks(cells: Mapping[str, object]) -> tuple[Check, ...]:
    value = cells.get("checks")
    if not isinstance(value, list):
        return ()
    try:
        return tuple(Check.model_validate(check) for check in value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _Unusable(
            "E_SHAPE", N_("`checks` is not as we write it: {reason}"), reason=first["msg"]
        ) from None


def _context(cells: Mapping[str, object], match: Match) -> str | None:
    value = cells.get("context")
    if "context" in match.columns.values() or not isinstance(value, str) or not value.strip():
        return None
    return _prose(value)


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# --- what belongs together --------------------------------------------------------------------------------------


def normalised(text: str) -> str:
    """`text` without case, punctuation and spacing: what two copies of one prompt have in common."""
    return re.sub(r"\W+", " ", text.casefold()).strip() or text.strip()


def prompt_key(turns: Sequence[Turn]) -> str:
    """A short name of a prompt, the same for all spellings of it; the system text counts only if it is all there is."""
    said = [turn for turn in turns if turn.role != "system"] or turns
    return _digest("\x1f".join(f"{turn.role}:{normalised(turn.content)}" for turn in said))


def _digest(text: str) -> str:
    return hashlib.sha256(normalised(text).encode()).hexdigest()[:16]
