"""Files are read strictly: each bad place is a finding with its line, and nothing bad gets through."""

import builtins
import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.data.findings import Finding
from advisor.data.read import MAX_DEPTH, MAX_LINE, Record, read
from advisor.errors import DatasetError, MissingPackage
from recipes.exits import Exit

GOOD = b'{"prompt": "a", "completion": "b"}\n'


def _file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _all(path):
    found = list(read(path))
    records = [one for one in found if isinstance(one, Record)]
    return records, [one for one in found if isinstance(one, Finding)]


@pytest.mark.parametrize(
    ("bad", "said", "column"),
    [
        (b'{"a": "caf\xe9"}', "0xE9 at position 10", 11),
        (b'{"a": NaN}', "NaN is not JSON", None),
        (b'{"a": Infinity}', "Infinity", None),
        (b'{"a": 1e999}', "too large", None),
        (b'{"a": ' + b"9" * 5000 + b"}", "64 bits", None),
        (b'{"a": 1, "a": 2}', "'a' stands twice", None),
        (b'{"a": "\\ud800"}', "surrogate", None),
        (b'{"a": "\\u0000"}', "NUL", None),
        (b'{"a": "x\x01y"}', "not JSON", 9),
        (b'{"a": ' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}", "nested deeper", None),
        (b'{"a": 1', "not JSON", 8),
    ],
)
def test_a_bad_line_is_a_finding_with_its_line_and_does_not_end_the_read(tmp_path, bad, said, column):
    records, findings = _all(_file(tmp_path, "a.jsonl", GOOD + bad + b"\n" + GOOD))

    assert [record.line for record in records] == [1, 3]
    assert [(f.line, f.column, f.code, f.blocking) for f in findings] == [(2, column, "E_PARSE", True)]
    assert said in str(findings[0])


def test_an_escaped_backslash_before_u0000_is_no_nul(tmp_path):
    records, findings = _all(_file(tmp_path, "a.jsonl", b'{"a": "\\\\u0000"}'))

    assert records == [Record(1, {"a": "\\u0000"})]
    assert findings == []


def test_crlf_and_empty_lines_are_no_matter(tmp_path):
    records, findings = _all(_file(tmp_path, "a.jsonl", b'{"a": 1}\r\n\r\n  \n{"a": 2}'))

    assert [(r.line, r.value) for r in records] == [(1, {"a": 1}), (4, {"a": 2})]
    assert findings == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
def test_a_byte_order_mark_is_left_out_and_told_where_it_matters(tmp_path, name):
    content = {"a.jsonl": '{"p": "x"}', "a.json": '[{"p": "x"}]', "a.csv": "p\nx\n", "a.txt": "x"}[name]
    records, findings = _all(_file(tmp_path, name, codecs.BOM_UTF8 + content.encode()))

    assert [record.value for record in records] in ([{"p": "x"}], ["x"])
    assert not [finding for finding in findings if finding.blocking]


def test_a_line_without_end_is_refused_without_being_read_into_memory_whole(tmp_path):
    path = _file(tmp_path, "a.jsonl", b'"' + b"x" * (MAX_LINE + 10) + b'"\n' + GOOD)
    records, findings = _all(path)

    assert [record.line for record in records] == [2]
    assert "more than 16777216 bytes" in str(findings[0])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"", "empty"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "UTF-16"),
        ("a.jsonl", b"\x1f\x8b\x08\x00", "compressed"),
        ("a.jsonl.gz", b"\x1f\x8b", ".gz"),
        ("a.zip", b"PK\x03\x04", ".zip"),
        ("a.xlsx", b"PK\x03\x04", ".xlsx"),
        ("a.pkl", b"x", ".pkl"),
        ("a.what", b"x", "unknown kind"),
        ("a.parquet", b"not parquet", "Parquet"),
    ],
)
def test_a_file_that_is_not_read_says_why_and_what_to_do(tmp_path, name, content, said):
    with pytest.raises(DatasetError) as caught:
        _all(_file(tmp_path, name, content))

    assert caught.value.exit_code == Exit.DATASET
    assert said in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(("name", "said"), [("missing.jsonl", "no such file"), (".", "directory")])
def test_what_is_no_file_says_so(tmp_path, name, said):
    with pytest.raises(DatasetError, match=said):
        _all(tmp_path / name)


def test_the_elements_of_an_array_on_one_line_are_told_apart_by_their_number(tmp_path):
    records, findings = _all(_file(tmp_path, "a.json", '[{"a": 1}, {"a": 2}, {"a": NaN}, {"a": 4}]\n'))

    assert [record.line for record in records] == [1, 2, 4]
    assert [finding.line for finding in findings] == [3]


def test_the_elements_of_a_json_array_keep_their_lines(tmp_path):
    records, findings = _all(_file(tmp_path, "a.json", '[\n {"a": 1},\n {"a": NaN},\n\n {"a":\n 3}\n]'))

    assert [(r.line, r.value) for r in records] == [(2, {"a": 1}), (5, {"a": 3})]
    assert [f.line for f in findings] == [3]


@pytest.mark.parametrize(
    "text", ['{"data": [{"a": 1}]}', '{"v": {"x": [1]}, "train": [{"a": 1}]}', '{"a": 1}']
)
def test_a_json_object_holds_records_or_is_one(tmp_path, text):
    records, _ = _all(_file(tmp_path, "a.json", text))

    assert [record.value for record in records] == [{"a": 1}]


def test_json_lines_called_json_and_an_array_called_jsonl_are_read_as_what_they_are(tmp_path):
    lines, _ = _all(_file(tmp_path, "a.json", '{"a": 1}\n{"a": 2}\n'))
    array, _ = _all(_file(tmp_path, "b.jsonl", '[{"a": 1},\n{"a": 2}]'))

    assert [r.value for r in lines] == [r.value for r in array] == [{"a": 1}, {"a": 2}]


def test_a_broken_array_gives_what_stands_before_the_break(tmp_path):
    records, findings = _all(_file(tmp_path, "a.json", '[{"a": 1},\n{"a" 2}]'))

    assert len(records) == 1
    assert (findings[0].line, findings[0].column) == (2, 6)


def test_a_table_row_may_span_lines_and_keeps_the_line_where_it_begins(tmp_path):
    text = 'prompt;completion\n"two\nlines";b\nx;y;z\nlast;one\n'
    records, findings = _all(_file(tmp_path, "a.csv", text))

    assert [(r.line, r.value["prompt"]) for r in records] == [(2, "two\nlines"), (5, "last")]
    assert [f.line for f in findings] == [4]


def test_a_table_row_that_is_not_utf8_is_left_out_and_told(tmp_path):
    records, findings = _all(_file(tmp_path, "a.tsv", b"p\tc\ngood\trow\nb\xffd\trow\nlast\trow\n"))

    assert [r.value["p"] for r in records] == ["good", "last"]
    assert [(f.line, f.column) for f in findings] == [(3, 2)]


def test_a_table_without_a_sound_header_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="name each column once"):
        _all(_file(tmp_path, "a.csv", "p,p\nx,y\n"))


def test_text_is_parted_at_blank_lines_and_markdown_at_headings(tmp_path):
    text, _ = _all(_file(tmp_path, "a.txt", "one\r\nstill\r\n\r\n\r\ntwo\n"))
    markdown, _ = _all(_file(tmp_path, "a.md", "# A\n\nx\n\n## B\ny\n"))

    assert [(r.line, r.value) for r in text] == [(1, "one\nstill"), (5, "two")]
    assert [(r.line, r.value) for r in markdown] == [(1, "# A\n\nx"), (5, "## B\ny")]


def test_parquet_rows_have_numbers(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"prompt": ["a", "b"], "completion": ["c", "d"]}), path)
    records, _ = _all(path)

    assert [(r.line, r.value["prompt"]) for r in records] == [(1, "a"), (2, "b")]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    genuine = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return genuine(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackage) as caught:
        _all(_file(tmp_path, "a.parquet", b"PAR1xxxx"))

    assert caught.value.exit_code == Exit.ENVIRONMENT
    assert "pip install" in caught.value.remedy


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(
        st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "\u2028"]), json_values), min_size=1, max_size=4))
def test_what_json_can_say_is_read_as_it_was_said(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("read")
    lines = _file(folder, "a.jsonl", "\n".join(json.dumps(value, ensure_ascii=False) for value in values))
    array = _file(folder, "a.json", json.dumps(values, indent=1))

    assert [record.value for record in _all(lines)[0]] == values
    assert [record.value for record in _all(array)[0]] == values


@given(st.binary(max_size=200))
def test_arbitrary_bytes_end_in_records_findings_or_a_sentence(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("a.jsonl", "a.json", "a.csv", "a.txt"):
        try:
            _all(_file(folder, name, content))
        except DatasetError as error:
            assert error.remedy
