"""`advisor ask`: a talk in plain lines that can be taken back, is kept, and never starts without a terminal."""

import io
import json
import sys

import pytest

from advisor.cli import main
from advisor.text import language, use


class Terminal(io.StringIO):
    """Lines that a person types."""

    def isatty(self):
        return True


@pytest.fixture
def ask(capsys, monkeypatch):
    """Type lines into `advisor ask`; returns exit code, stdout, stderr."""
    before = language()
    use("en")

    def run(lines, *words):
        monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{line}\n" for line in lines)))
        with pytest.raises(SystemExit) as ended:
            main(("ask", *words))
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    yield run
    use(before)


def _facts(out):
    return {name: fact["value"] for name, fact in json.loads(out)["data"]["facts"].items()}


def test_without_a_terminal_it_never_prompts_and_says_what_to_give(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n"))
    with pytest.raises(SystemExit) as ended:
        main(("ask",))
    out, err = capsys.readouterr()

    assert (ended.value.code, out) == (2, "")
    assert "--fact NAME=VALUE" in err


def test_answers_by_number_lead_to_the_advice_on_stdout_alone(ask):
    code, out, err = ask(["1", "4", "p"])

    assert (code, out.splitlines()[0].startswith("Advice: Look the facts up")) == (0, True)
    assert "1. Does the model lack knowledge" in err
    assert "Does the model" not in out.split("Find out next", maxsplit=1)[0]


def test_the_end_of_the_input_gives_the_advice(ask):
    code, out, _ = ask([])

    assert (code, out.startswith("Advice: ")) == (0, True)


def test_back_takes_the_last_answer_back(ask):
    _, out, _ = ask(["1", "b", "2", "p"], "--json")

    assert _facts(out) == {"lacks_knowledge": False}


def test_back_at_the_first_question_stays_there(ask):
    _, out, err = ask(["b", "1", "p"], "--json")

    assert ("This is the first question." in err, _facts(out)) == (True, {"lacks_knowledge": True})


def test_not_sure_stays_unknown_and_is_not_asked_again(ask):
    _, out, err = ask(["u", "p"], "--json")

    assert _facts(out) == {}
    assert err.count("Does the model lack knowledge") == 1


def test_the_last_number_means_not_sure_too(ask):
    assert _facts(ask(["3", "p"], "--json")[1]) == {}


def test_why_tells_the_reason_and_the_picture_and_asks_again(ask):
    _, out, err = ask(["w", "1", "p"], "--plain", "--json")

    assert "A textbook at work" in err
    assert _facts(out) == {"lacks_knowledge": True}


def test_plain_leaves_the_reasons_out(ask):
    assert "Facts are better looked up" in ask(["p"])[2]
    assert "Facts are better looked up" not in ask(["p"], "--plain")[2]


def test_an_exact_value_may_be_typed(ask):
    known = [
        f"--fact={fact}" for fact in ("lacks_knowledge=no", "lacks_style_format=yes", "prompt_can_fix=no")
    ]
    _, out, _ = ask(["=0.62", "p"], *known, "--fact=eval_set_size=50", "--json")

    assert _facts(out)["prompt_success"] == 0.62


@pytest.mark.parametrize("typed", ["0", "9", "-1", "maybe", "=perhaps", "\x1b[2J", "١"])
def test_what_cannot_be_an_answer_is_named_with_what_can(ask, typed):
    code, out, err = ask([typed, "1", "p"], "--json")

    assert (code, _facts(out)) == (0, {"lacks_knowledge": True})
    assert "yes, no, unknown" in err
    assert "\x1b" not in err


def test_an_empty_line_is_no_answer(ask):
    assert _facts(ask(["", "  ", "1", "p"], "--json")[1]) == {"lacks_knowledge": True}


def test_the_answers_are_kept_and_read_back_by_recommend(ask, tmp_path, capsys):
    kept = tmp_path / "answers.json"
    ask(["1", "3", "p"], "--save", str(kept))
    for option in ("--facts", "--answers"):
        with pytest.raises(SystemExit):
            main(("recommend", option, str(kept), "--json"))

        assert _facts(capsys.readouterr().out) == {"lacks_knowledge": True, "knowledge_change": "monthly"}


def test_a_talk_that_was_kept_goes_on_where_it_stopped(ask, tmp_path):
    kept = tmp_path / "answers.json"
    ask(["1", "p"], "--save", str(kept))
    _, out, err = ask(["3", "p"], "--save", str(kept), "--json")

    assert "Does the model lack knowledge" not in err
    assert _facts(out) == {"lacks_knowledge": True, "knowledge_change": "monthly"}


def test_a_file_that_holds_no_answers_is_not_overwritten(ask, tmp_path):
    kept = tmp_path / "novel.txt"
    kept.write_text("It was a dark and stormy night", encoding="utf-8")
    code, _, err = ask(["1", "p"], "--save", str(kept))

    assert (code, "error[" in err) == (2, True)
    assert kept.read_text(encoding="utf-8") == "It was a dark and stormy night"


def test_it_stops_by_itself_when_no_answer_can_change_the_advice(ask):
    code, out, err = ask(["u"] * 60)

    assert (code, out.startswith("Advice: ")) == (0, True)
    assert err.count(" back, u not sure") < 40


def test_it_speaks_chinese(ask):
    use("zh")
    code, _, err = ask(["1", "p"])

    assert (code, "1)" in err, "u 不确定" in err) == (0, True, True)
