"""`advisor data`: results on stdout, notes on stderr, one exit code for each outcome, nothing raw on a terminal."""

import json

import pytest

from advisor.cli import main

GOOD = [{"prompt": f"What is {i}?", "completion": f"It is number {i}."} for i in range(60)]


def _file(tmp_path, values, name="a.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(value) for value in values), encoding="utf-8")
    return path


@pytest.fixture
def advisor(capsys):
    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


def test_a_clean_file_is_0_and_findings_are_1_from_the_level_that_was_asked(advisor, tmp_path):
    clean, few = _file(tmp_path, GOOD), _file(tmp_path, GOOD[:9], "few.jsonl")
    broken = _file(tmp_path, [*GOOD, {"foo": 1}], "broken.jsonl")

    assert advisor("data", "check", clean)[0] == 0
    assert advisor("data", "check", few)[0] == 1
    assert advisor("data", "check", few, "--fail-on", "error")[0] == 0
    assert advisor("data", "check", broken, "--fail-on", "error")[0] == 1


def test_an_unusable_file_is_3_with_a_sentence_and_no_traceback(advisor, tmp_path):
    code, out, err = advisor("data", "check", _file(tmp_path, [{"foo": 1}]))

    assert (code, out) == (3, "")
    assert "error[D0100]" in err
    assert "Traceback" not in err


def test_findings_have_places_and_the_json_has_all_of_them(advisor, tmp_path):
    path = _file(tmp_path, [*GOOD, *({"foo": i} for i in range(30))])
    _, text, _ = advisor("data", "check", path)
    _, told, _ = advisor("data", "check", path, "--json")
    data = json.loads(told)["data"]

    assert f"{path}:61: " in text
    assert "10 more" in text
    assert (data["left_out"], data["rows"], data["counts"]["error"]) == (30, 60, 30)


def test_what_data_says_reaches_no_terminal_raw(advisor, tmp_path):
    nasty = "\x1b]0;owned\x07\x1b[2J\u202e"
    path = _file(tmp_path, [*GOOD, {"prompt": nasty, "completion": nasty}, {nasty: 1}])

    for words in (("check", path), ("preview", path, "--rows", "61")):
        _, out, err = advisor("data", *words)

        assert not {"\x1b", "\x07", "\u202e"} & set(out + err)


def test_the_preview_marks_what_is_trained_without_colour(advisor, tmp_path):
    code, out, err = advisor("data", "preview", _file(tmp_path, GOOD), "--rows", "1")
    lines = out.splitlines()

    assert code == 0
    assert any(line.startswith("  . user") and "What is 0?" in line for line in lines)
    assert any(line.startswith("  + answer") and line.endswith("It is number 0.<end>") for line in lines)
    assert "\x1b" not in out
    assert "estimated" in err


def test_convert_writes_rows_once_and_never_over_a_file(advisor, tmp_path):
    source, target = _file(tmp_path, GOOD), tmp_path / "rows.jsonl"

    assert advisor("data", "convert", source, "-o", target, "-n")[0] == 0
    assert not target.exists()
    assert advisor("data", "convert", source, "-o", target)[0] == 0
    before = target.read_bytes()
    assert advisor("data", "convert", source, "-o", target)[0] == 2
    assert advisor("data", "convert", source, "-o", source)[0] == 2
    assert target.read_bytes() == before
    assert json.loads(advisor("data", "preview", target, "--json")[1])["data"]["format"] == "rows"


def test_a_mapping_chooses_columns_and_a_wrong_one_is_a_usage_error(advisor, tmp_path):
    path = _file(tmp_path, [{"a": "question", "b": "answer"}] * 3)

    assert advisor("data", "preview", path)[0] == 3
    assert "answer" in advisor("data", "preview", path, "--map", "prompt=a", "--map", "completion=b")[1]
    assert advisor("data", "preview", path, "--map", "prompt")[0] == 2
    assert advisor("data", "preview", path, "--map", "promt=a")[0] == 2
