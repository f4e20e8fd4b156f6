"""Read dataset files strictly: records and findings, each with its line; formats of rows are known elsewhere."""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Final

from advisor.data.findings import Finding
from advisor.errors import DatasetError, MissingPackage, NoRoom
from advisor.reading import is_directory, is_plain
from recipes.errors import Value
from recipes.words import N_

MAX_LINE: Final = 16 * 2**20
"""Bytes of one line (16 MiB): a longer one is no example but a file that lost its line breaks."""
MAX_WHOLE: Final = 2**30
"""Bytes of a file that has to be read as a whole (JSON, text): 1 GiB; JSONL has no such limit."""
MAX_DEPTH: Final = 64
"""Nesting of a value: no format of examples needs more, and Python's parser recurses."""
MAX_INTEGER: Final = 2**63 - 1
"""Beyond this, readers disagree: `datasets` turns such a number into infinity."""

EXCERPT: Final = 60
COMMENTS: Final = ("//", "/*", "#")
"""What a person puts before a remark in other formats; JSON would need a key for it."""
NO_COMMENTS: Final = N_("JSON has no comments; take this one out: {excerpt!r}")

_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BLANK: Final = " \t\r\n"
_HEADING: Final = re.compile(r"^#{1,6}\s", re.MULTILINE)
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"?')

UTF8_BOM: Final = b"\xef\xbb\xbf"
UTF16_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Record:
    """One value of a file, of any JSON type, and the line (from 1) where it begins.

    In Parquet, and in a JSON array that stands on one line, `line` is the number of the record.
    """

    line: int
    value: object


Found = Record | Finding
Message = tuple[str, Mapping[str, Value]]


class _Unfit(ValueError):
    """A value that JSON allows, or Python's parser lets through, and that we refuse."""

    def __init__(self, message: str, **values: Value) -> None:
        super().__init__(message)
        self.message, self.values = message, values


def read(path: Path) -> Iterator[Found]:
    """Read `path` record by record. Bad records are findings and do not end the read.

    Raises:
        DatasetError: The file is missing, empty, no file, or of a kind that is not read.
        MissingPackage: A Parquet file without pyarrow.
        NoRoom: The file may not be read.
    """
    reader = _reader(path)
    _openable(path)
    return reader(path)


def _reader(path: Path) -> Callable[[Path], Iterator[Found]]:
    suffix = path.suffix.lower()
    if suffix in REFUSED and not is_directory(path):
        raise DatasetError(
            N_("{suffix} files are not read"), remedy=REFUSED[suffix], where=str(path), suffix=suffix
        )
    if suffix not in READERS and not is_directory(path) and _exists(path):
        raise DatasetError(
            N_("unknown kind of file: {suffix}"),
            remedy=N_("use one of {known}"),
            where=str(path),
            suffix=suffix or N_("no ending"),
            known=" ".join(sorted(READERS)),
        )
    return READERS.get(suffix, _json_lines)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # opening it will say why
        return False


def _openable(path: Path) -> None:
    where = str(path)
    _plain(path)
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except FileNotFoundError:
        raise DatasetError(
            N_("there is no such file"), remedy=N_("check the path; it is read as typed"), where=where
        ) from None
    except IsADirectoryError:
        raise DatasetError(
            N_("this is a directory, not a file"), remedy=N_("name one file inside it"), where=where
        ) from None
    except OSError as error:
        raise NoRoom(
            N_("the file cannot be read: {reason}"),
            remedy=N_("check its permissions"),
            where=where,
            reason=error.strerror or type(error).__name__,
        ) from None
    if not start:
        raise DatasetError(
            N_("the file is empty"), remedy=N_("write one example a line into it"), where=where
        )
    if start.startswith(UTF16_BOMS):
        raise DatasetError(
            N_("the file is UTF-16, not UTF-8"),
            remedy=N_("convert it: iconv -f UTF-16 -t UTF-8 FILE > FILE.utf8"),
            where=where,
        )
    if start.startswith((b"\x1f\x8b", b"PK\x03\x04")):
        raise DatasetError(
            N_("the file is compressed, whatever its name says"),
            remedy=N_("unpack it first, and name the file that comes out"),
            where=where,
        )


def _plain(path: Path) -> None:
    """Refuse what has no end, may never begin, or cannot be read twice; what is not there is told elsewhere."""
    try:
        plain = is_plain(path) or is_directory(path)
    except OSError:
        return
    if not plain:
        raise DatasetError(
            N_("this is a pipe or a device, not a file"),
            remedy=N_("save the data as a file first, and name that"),
            where=str(path),
        )


# --- JSON Lines -------------------------------------------------------------------------------------------------


def _json_lines(path: Path) -> Iterator[Found]:
    if _first_character(path) == "[":  # a JSON array under the wrong name is common and unambiguous
        yield from _json(path)
        return
    name = str(path)
    for number, raw in _lines(path):
        text = _decoded(raw, name, number) if isinstance(raw, bytes) else raw
        if isinstance(text, Finding):
            yield text
        elif text.strip(_BLANK):
            yield _value(text.rstrip("\r\n"), name, number)


def _first_character(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(UTF8_BOM).lstrip()
    return start[:1].decode("latin-1")


def _lines(path: Path) -> Iterator[tuple[int, bytes | Finding]]:
    """Each line with its number, without holding the file; a line beyond `MAX_LINE` is a finding."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            if len(raw) > MAX_LINE:
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(MAX_LINE)
                yield (
                    number,
                    _bad(str(path), number, None, N_("a line of more than {most} bytes"), most=MAX_LINE),
                )
            elif number == 1 and raw.startswith(UTF8_BOM):
                yield number, _bom(str(path))
                yield number, raw.removeprefix(UTF8_BOM)
            else:
                yield number, raw


def _decoded(raw: bytes, name: str, number: int) -> str | Finding:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8", "replace")
        return _bad(
            name,
            number + before.count("\n"),
            len(before) - (before.rfind("\n") + 1) + 1,
            N_("not UTF-8: byte {byte} at position {offset} of the line; save the file as UTF-8"),
            byte=f"0x{raw[error.start]:02X}",
            offset=error.start - (raw.rfind(b"\n", 0, error.start) + 1),
        )


def _value(text: str, name: str, line: int) -> Found:
    """One JSON text as a record, or what is wrong with it."""
    try:
        _shallow(text)
        value = _DECODER.decode(text)
        _encodable(text, value)
    except _Unfit as error:
        return Finding(name, line, None, "E_PARSE", error.message, error.values, blocking=True)
    except json.JSONDecodeError as error:
        return _syntax(error, name, line + error.lineno - 1)
    except RecursionError:
        return _bad(name, line, None, N_("nested deeper than {most} levels"), most=MAX_DEPTH)
    return Record(line, value)


def _syntax(error: json.JSONDecodeError, name: str, line: int) -> Finding:
    here = error.doc[error.pos : error.pos + EXCERPT].split("\n")[0]
    if here.startswith(COMMENTS):
        return _bad(name, line, error.colno, NO_COMMENTS, excerpt=here)
    return _bad(
        name,
        line,
        error.colno,
        N_("not JSON: {reason}, before {excerpt!r}")
        if here
        else N_("not JSON: {reason}, at the end of the line"),
        reason=error.msg,
        excerpt=here,
    )


# --- JSON as a whole --------------------------------------------------------------------------------------------


def _json(path: Path) -> Iterator[Found]:
    text = _whole(path)
    if isinstance(text, Finding):
        yield text
        return
    if text.startswith("\ufeff"):
        yield _bom(str(path))
        text = " " + text[1:]  # the same length, so that columns stay right
    start = _after_blank(text, 0)
    if text[start : start + 1] == "[":
        yield from _array(text, start, path)
    elif text[start : start + 1] == "{":
        yield from _object(text, start, path)
    else:
        here = text[start : start + EXCERPT].split("\n")[0]
        if here.startswith(COMMENTS):
            yield _bad(str(path), text.count("\n", 0, start) + 1, None, NO_COMMENTS, excerpt=here)
            return
        yield _bad(str(path), 1, None, N_("a JSON dataset is a list of objects; this is something else"))


def _whole(path: Path) -> str | Finding:
    size = path.stat().st_size
    if size > MAX_WHOLE:
        raise DatasetError(
            N_("{size} bytes are too many for a file that is read as a whole (at most {most})"),
            remedy=N_("convert it to JSONL, one object a line: jq -c '.[]' FILE > FILE.jsonl"),
            where=str(path),
            size=size,
            most=MAX_WHOLE,
        )
    return _decoded(path.read_bytes(), str(path), 1)


def _array(text: str, start: int, path: Path) -> Iterator[Found]:
    """Each element of the array that begins at `start`; a broken one ends it, an unfit one does not."""
    lines = _LineCounter(text) if "\n" in text.strip() else _ElementCounter()
    place = _after_blank(text, start + 1)
    if text[place : place + 1] == "]":
        return
    while True:
        found, end = _element(text, place, str(path), lines(place))
        yield found
        if end is None:
            return
        place = _after_blank(text, end)
        if text[place : place + 1] == "]":
            return
        if text[place : place + 1] != ",":
            error = json.JSONDecodeError("Expecting ',' or ']'", text, place)
            yield _syntax(error, str(path), lines(place))
            return
        place = _after_blank(text, place + 1)


def _element(text: str, place: int, name: str, line: int) -> tuple[Found, int | None]:
    """The value at `place` and where it ends; None as the end where that cannot be known."""
    try:
        _, end = _LENIENT.raw_decode(text, place)
    except json.JSONDecodeError as error:
        return _syntax(error, name, line + text.count("\n", place, error.pos)), None
    except (RecursionError, ValueError) as error:
        return _bad(name, line, None, N_("not JSON: {reason}"), reason=str(error)[:EXCERPT]), None
    found = _value(text[place:end], name, line)
    return found, end


def _object(text: str, start: int, path: Path) -> Iterator[Found]:
    """The list under `data` or `train`, or JSON Lines under the name .json, or one record."""
    found, end = _element(text, start, str(path), 1 + text.count("\n", 0, start))
    if end is not None and _after_blank(text, end) < len(text):
        yield from _json_lines(path)
        return
    if isinstance(found, Record) and isinstance(found.value, dict):
        for key in ("data", "train"):
            if isinstance(found.value.get(key), list):
                # the position of a value is known only by walking there
                yield from _array(text, _position(text, start, key), path)
                return
    yield found


def _position(text: str, start: int, wanted: str) -> int:
    """Where the value of the key `wanted` begins in the object at `start`, which is known to parse."""
    place = _after_blank(text, start + 1)
    while True:
        key, place = _LENIENT.raw_decode(text, place)
        place = _after_blank(text, _after_blank(text, place) + 1)  # the colon
        if key == wanted:
            return place
        _, place = _LENIENT.raw_decode(text, place)
        place = _after_blank(text, _after_blank(text, place) + 1)  # the comma


def _after_blank(text: str, place: int) -> int:
    while place < len(text) and text[place] in _BLANK:
        place += 1
    return place


class _ElementCounter:
    """Numbers the elements of an array that stands on one line: its line would tell none from another."""

    def __init__(self) -> None:
        self._place, self._number = -1, 0

    def __call__(self, place: int) -> int:
        self._number += place > self._place
        self._place = place
        return self._number


class _LineCounter:
    """Counts lines forward only, so that a large array is scanned once."""

    def __init__(self, text: str) -> None:
        self._text, self._place, self._line = text, 0, 1

    def __call__(self, place: int) -> int:
        self._line += self._text.count("\n", self._place, place)
        self._place = place
        return self._line


# --- tables and text --------------------------------------------------------------------------------------------


def _table(path: Path) -> Iterator[Found]:
    """CSV and TSV: a header, then rows; each row is a record of texts."""
    name, pending = str(path), list[Finding]()
    csv.field_size_limit(MAX_LINE)
    reader = csv.reader(_text_lines(path, pending), dialect=_dialect(path), strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            yield _bad(name, line, None, N_("not a table row: {reason}"), reason=str(error))
            continue
        if pending:
            yield from pending
            pending.clear()
        elif not header:
            header = _header(cells, name)
        elif cells:
            yield _table_row(header, cells, name, line)
    yield from pending


def _header(cells: list[str], name: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(set(names)) < len(names) or not all(names):
        raise DatasetError(
            N_("the first line has to name each column once; it says {names}"),
            remedy=N_("add a header line such as prompt,completion"),
            where=f"{name}:1",
            names=", ".join(names)[:200],
        )
    return names


def _table_row(header: list[str], cells: list[str], name: str, line: int) -> Found:
    if len(cells) != len(header):
        return _bad(
            name,
            line,
            None,
            N_("{found} cells where the header names {expected}; put text with commas in double quotes"),
            found=len(cells),
            expected=len(header),
        )
    return Record(line, dict(zip(header, cells, strict=True)))


def _text_lines(path: Path, pending: list[Finding]) -> Iterator[str]:
    """Lines as text. What cannot be decoded goes to `pending`; its row is then not used."""
    for number, raw in _lines(path):
        text = _decoded(raw, str(path), number) if isinstance(raw, bytes) else raw
        if isinstance(text, Finding):
            if text.blocking:  # a byte order mark alone spoils no row
                pending.append(text)
                yield "\n"
        elif "\x00" in text:
            pending.append(_bad(str(path), number, text.index("\x00") + 1, N_("a NUL character")))
            yield "\n"
        else:
            yield text


def _dialect(path: Path) -> type[csv.Dialect]:
    if path.suffix.lower() == ".tsv":
        return csv.excel_tab
    with path.open("rb") as file:
        first = file.readline(2**16).decode("utf-8-sig", "replace")
    counts = {mark: first.count(mark) for mark in ",;\t|"}
    best = max(counts, key=lambda mark: counts[mark])

    class Sniffed(csv.excel):
        delimiter = best if counts[best] else ","

    return Sniffed


def _text(path: Path) -> Iterator[Found]:
    """A text as documents: parts between headings (.md) or between blank lines (.txt)."""
    text = _whole(path)
    if isinstance(text, Finding):
        yield text
        return
    if text.startswith("\ufeff"):
        yield _bom(str(path))
        text = text[1:]
    text = text.replace("\r\n", "\n")
    parts = _sections(text) if path.suffix.lower() in {".md", ".markdown"} else _paragraphs(text)
    for line, part in parts:
        if part.strip():
            yield Record(line, part.strip("\n"))


def _sections(text: str) -> Iterator[tuple[int, str]]:
    starts = [0, *(match.start() for match in _HEADING.finditer(text)), len(text)]
    lines = _LineCounter(text)
    for start, end in pairwise(starts):
        yield lines(start), text[start:end]


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    lines, place = _LineCounter(text), 0
    for gap in re.finditer(r"(?:\n[ \t]*){2,}", text):
        yield lines(place), text[place : gap.start()]
        place = gap.end()
    yield lines(place), text[place:]


def _parquet(path: Path) -> Iterator[Found]:
    """Rows of a Parquet file; `line` is the number of the row, from 1."""
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415  (optional, and slow to import)
    except ImportError:
        raise MissingPackage(
            N_("reading Parquet needs pyarrow, which is not installed"),
            remedy=N_("pip install 'finetune-advisor[train]', or save the data as JSONL"),
            where=str(path),
        ) from None
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            for value in batch.to_pylist():
                number += 1
                yield Record(number, value)
    except (ArrowException, OSError) as error:
        raise DatasetError(
            N_("not a Parquet file that can be read: {reason}"),
            remedy=N_("write it anew, or save the data as JSONL"),
            where=str(path),
            reason=str(error).split("\n")[0][:200],
        ) from None


# --- what a value may not be ------------------------------------------------------------------------------------


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Unfit(N_("the key {key!r} stands twice in one object"), key=twice[:EXCERPT])
    return value


def _integer(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) > MAX_INTEGER:
        raise _Unfit(N_("the number {number} has more than 64 bits; write it as text"), number=digits[:30])
    return int(digits)


def _decimal(digits: str) -> float:
    number = float(digits)
    if number in {float("inf"), float("-inf")}:
        raise _Unfit(N_("the number {number} is too large; write it as text"), number=digits[:30])
    return number


def _constant(name: str) -> float:
    raise _Unfit(N_("{name} is not JSON; leave the field out or write null"), name=name)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_integer, parse_float=_decimal, parse_constant=_constant
)
_LENIENT: Final = json.JSONDecoder(parse_int=len)  # finds ends; its values are not used


def _shallow(text: str) -> None:
    """Refuse nesting beyond `MAX_DEPTH` before the parser recurses into it."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for mark in _STRING.sub("", text):
        depth += (mark in "[{") - (mark in "]}")
        if depth > MAX_DEPTH:
            raise _Unfit(N_("nested deeper than {most} levels"), most=MAX_DEPTH)


def _encodable(text: str, value: object) -> None:
    """Refuse half characters (lone surrogates) and NUL, which crash tokenizers and other readers later."""
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _Unfit(N_("half of a surrogate pair (\\ud800 to \\udfff) stands alone")) from None
    if "\\u0000" in text and any("\x00" in part for part in texts(value)):
        raise _Unfit(N_("a NUL character (\\u0000)"))


def texts(value: object) -> Iterator[str]:
    """Every text inside a JSON value, keys included."""
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                yield from (key, *texts(inner))
        case list():
            for inner in value:
                yield from texts(inner)


def control_character(text: str) -> str | None:
    """The first control character in `text` other than tab and line breaks, written out, or None."""
    found = _CONTROL.search(text)
    return f"U+{ord(found[0]):04X}" if found else None


def _bad(name: str, line: int, column: int | None, message: str, **values: Value) -> Finding:
    return Finding(name, line, column, "E_PARSE", message, values, blocking=True)


def _bom(name: str) -> Finding:
    return Finding(
        name, 1, 1, "W_BOM", N_("the file begins with a byte order mark; it was left out"), {}, blocking=False
    )


READERS: Final[Mapping[str, Callable[[Path], Iterator[Found]]]] = MappingProxyType(
    {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".json": _json,
        ".csv": _table,
        ".tsv": _table,
        ".parquet": _parquet,
        ".txt": _text,
        ".md": _text,
        ".markdown": _text,
    }
)
"""By the ending of the file's name, in small letters."""

_UNPACK: Final = N_("unpack it first, and name the file that comes out")
REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys((".gz", ".zst", ".bz2", ".xz", ".zip", ".tar", ".tgz", ".7z"), _UNPACK),
        **dict.fromkeys((".xlsx", ".xls", ".ods"), N_("save it as CSV (UTF-8)")),
        ".arrow": N_("save it as Parquet or JSONL"),
        **dict.fromkeys((".pkl", ".pt", ".bin"), N_("a pickle can run code; save the data as JSONL")),
        **dict.fromkeys((".yaml", ".yml", ".toml"), N_("a dataset is JSONL, JSON, CSV, Parquet or text")),
    }
)
"""Endings that are known and not read, and what to do instead."""
