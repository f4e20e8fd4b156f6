"""A preview token by token is what the trainer itself says, readable without colour."""

import json

import pytest

from advisor.cli import main
from advisor.learn.lantern.base import base_dir
from advisor.text import use


@pytest.fixture
def preview(tmp_path, capsys):
    use("en")
    rows = [
        {"prompt": "How heavy is the clock?", "completion": "Ahoy! It weighs 7 kilos."},
        {"prompt": "hi \x1b[31m", "completion": "<|end|>"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def call(*words):
        with pytest.raises(SystemExit) as left:
            main(["data", "preview", str(path), *words])
        said = capsys.readouterr()
        return left.value.code, said.out, said.err

    return call


def test_what_is_trained_stands_in_marks_with_the_token_that_ends_it(preview):
    code, out, _ = preview("--tokens", "--model", str(base_dir()), "--rows", "1")
    trained = out[out.index("{+") : out.index("+}")]

    assert code == 0
    assert "Ahoy! It weighs 7 kilos." in trained
    assert "clock" not in trained
    assert "tokens are trained" in out
    assert "\x1b" not in out


def test_as_json_every_token_is_counted(preview):
    code, out, _ = preview("--tokens", "--model", str(base_dir()), "--rows", "1", "--json")
    (row,) = json.loads(out)["data"]["rows"]

    assert code == 0
    assert [span["trained"] for span in row["spans"]] == [False, True]
    assert all(span["tokens"] > 0 for span in row["spans"])


def test_without_a_model_there_are_no_tokens(preview):
    code, _, err = preview("--tokens")

    assert code == 2
    assert "--model DIR" in err


def test_a_directory_that_is_no_model_is_said(preview, tmp_path):
    code, _, err = preview("--tokens", "--model", str(tmp_path))

    assert code == 2
    assert "config.json" in err
