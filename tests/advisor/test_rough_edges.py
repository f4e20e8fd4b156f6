"""Small things that a person stumbles over: endless paths, comments in JSON, a terminal that can only print."""

import json

import pytest

from advisor.cli import main
from advisor.data import store
from advisor.data.convert import convert
from advisor.errors import DatasetError, NoRoom
from advisor.run.start import start
from advisor.text import use

DEEP = "a/" * 2000 + "x"


@pytest.fixture(autouse=True)
def english():
    use("en")


def test_a_path_of_two_thousand_folders_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(NoRoom, match="cannot be written"):
        store.folder(tmp_path / DEEP)
    with pytest.raises(NoRoom, match="cannot be written"):
        start(tmp_path / "recipe.toml", run=tmp_path / DEEP)


@pytest.mark.parametrize(
    "name, text, line",
    [
        ("a.json", '// hello\n[{"prompt": "a", "completion": "b"}]\n', 1),
        ("a.json", '[{"prompt": "a", "completion": "b"},\n # no\n {"prompt": "a", "completion": "b"}]\n', 2),
        ("a.jsonl", '{"prompt": "a", "completion": "b"}\n/* no */ {"prompt": "a", "completion": "b"}\n', 2),
    ],
)
def test_a_comment_in_json_is_called_one(tmp_path, name, text, line):
    path = tmp_path / name
    path.write_text('{"prompt": "c", "completion": "d"}\n' * (name == "a.jsonl") + text, encoding="utf-8")
    try:
        said = [finding.message for finding in convert(path).findings]
    except DatasetError as failure:  # where nothing else is left, the file is refused
        said = [str(failure)]

    assert any("JSON has no comments" in one for one in said)


@pytest.mark.parametrize("terminal", ["dumb", "unknown"])
def test_a_terminal_that_can_only_print_gets_the_help(monkeypatch, capsys, terminal):
    opened = []
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("advisor.tui.app.run", lambda: opened.append(1))
    with pytest.raises(SystemExit) as left:
        main([])

    assert (left.value.code, opened) == (2, [])
    assert "Usage" in capsys.readouterr().err


def test_json_as_it_should_be_has_no_such_finding(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"prompt": "# no // comment", "completion": "b"}]), encoding="utf-8")

    assert [finding.code for finding in convert(path).findings if finding.code == "E_PARSE"] == []
