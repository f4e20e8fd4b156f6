"""`advisor recommend` and `advisor graph` from the outside: streams, exit codes, shapes."""

import json

import pytest
from click.testing import CliRunner

from advisor.catalog.gpus import Hardware
from advisor.cli import main
from advisor.decide.answers import FACTS
from advisor.units import GIB

FIELDS = {
    "classic_leaf", "primary", "open", "plan", "alternatives", "excluded", "confidence", "flips", "flip_pairs", "ask_next",
    "warnings", "path", "cheapest_test", "stop_rule", "facts", "axes", "contested",
}  # fmt: skip
STYLE = ("--fact", "lacks_style_format=yes", "--fact", "n_labelled=800", "--fact", "label_quality=gold")


@pytest.fixture
def advisor(capsys, monkeypatch):
    """Run the program; returns exit code, stdout, stderr."""
    monkeypatch.setenv("ADVISOR_LANG", "en")

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main(words)
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


def _data(out):
    return json.loads(out)["data"]


def test_the_json_answer_has_the_agreed_shape(advisor):
    code, out, err = advisor("recommend", *STYLE, "--json")
    envelope = json.loads(out)
    data = envelope["data"]

    assert (code, err, envelope["schema"]) == (0, "", "advisor/recommend/1")
    assert set(data) == FIELDS
    assert data["plan"][0].keys() == {"stage", "leaf", "role", "why", "attachments"}
    assert data["confidence"].keys() == {"band", "value", "R", "E", "G", "caps"}
    assert data["flips"][0].keys() == {"fact", "change", "primary", "experiment"}
    assert {"fact", "question", "minutes"} <= data["ask_next"][0].keys()
    assert data["warnings"][0].keys() == {"code", "message", "edge"}
    assert {"edge", "from", "answer", "to", "origin", "grade", "assumed"} <= data["path"][0].keys()
    assert data["facts"]["n_labelled"] == {"value": 800, "origin": "flag"}


def test_with_only_a_card_it_says_what_fits_and_that_the_decision_is_open(advisor):
    _, out, _ = advisor("recommend", "--vram", "24", "--json")
    data = _data(out)

    assert (data["open"], data["primary"], data["confidence"]["band"]) == (True, "few_shot", "low")
    assert len(data["ask_next"]) == 3
    assert {row["method"] for row in data["fits"]["rows"] if row["largest"]} == {
        "full",
        "last_layers",
        "lora",
        "qlora",
    }


def test_the_text_keeps_to_eighty_columns_and_begins_with_the_advice(advisor):
    for words in ((), ("--explain",), ("--vram", "24", "--explain")):
        _, out, _ = advisor("recommend", *STYLE, *words)

        assert out.startswith("Advice: ")
        assert max(map(len, out.splitlines())) <= 80


def test_do_not_train_is_an_answer_and_no_error(advisor):
    code, out, _ = advisor("recommend", "--fact", "prompt_success=0.97", "--fact", "target_success=0.9")

    assert (code, "train nothing" in out) == (0, True)


def test_a_model_and_a_card_become_facts(advisor):
    _, out, _ = advisor("recommend", *STYLE, "--gpu", "4090", "--model", "Qwen/Qwen3-8B", "--json")
    facts = _data(out)["facts"]

    assert facts["vram_gb"] == {"value": 24, "origin": "hardware"}
    assert facts["model_params_b"]["value"] == pytest.approx(8.19, abs=0.01)


def test_what_the_data_shows_counts_more_than_what_was_said(advisor, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "a", "completion": "some longer answer"}\n' * 12, encoding="utf-8")
    code, out, err = advisor("recommend", "--fact", "n_labelled=800", "--data", str(data), "--json")

    assert (code, _data(out)["facts"]["n_labelled"]) == (0, {"value": 12, "origin": "data"})
    assert "n_labelled=12 was measured and counts; 800 was said" in err


def test_a_report_is_read_and_its_numbers_count(advisor, tmp_path):
    rate = {"value": 0.0, "low": 0.0, "high": 0.1, "n": 40}
    right = {"value": 1.0, "low": 0.9, "high": 1.0, "n": 40}
    arms = [
        {"name": name, "scores": {"style": rate, "fact": right}, "prompt_tokens": 5, "seconds": 1}
        for name in ("base", "prompt", "few_shot")
    ]
    report = {
        "run": "r", "model": "m", "primary": "style", "held_out_rows": 40, "arms": arms, "verdict": "not_trained",
        "versions": {}, "machine": {}, "finished": "2026-11-20T00:00:00Z",
    }  # fmt: skip
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    words = (*STYLE, "--fact", "style_stable=yes", "--fact", "prompt_success=0.9")
    code, out, err = advisor("recommend", *words, "--report", str(path), "--json")
    data = _data(out)

    assert (code, data["primary"], data["classic_leaf"]) == (0, "sft_lora", "FT2")
    assert data["facts"]["prompt_success"] == {"value": 0.0, "origin": "report"}
    assert "0.9 was said" in err


def test_saved_answers_are_read_as_toml_or_json_and_flags_win(advisor, tmp_path):
    saved = tmp_path / "tour.toml"
    saved.write_text('[facts]\nlacks_knowledge = "yes"\nknowledge_change = "daily"\n', encoding="utf-8")
    _, out, _ = advisor("recommend", "--answers", str(saved), "--fact", "knowledge_change=static", "--json")

    assert _data(out)["facts"]["knowledge_change"] == {"value": "static", "origin": "flag"}


def test_a_folder_is_answered_file_by_file_and_a_bad_file_spoils_no_other(advisor, tmp_path):
    (tmp_path / "b.json").write_text('{"lacks_knowledge": "yes"}', encoding="utf-8")
    (tmp_path / "a.json").write_text('{"lacks_knowlege": "yes"}', encoding="utf-8")
    (tmp_path / "c.json").write_text("[]", encoding="utf-8")
    code, out, _ = advisor("recommend", "--facts-dir", str(tmp_path), "--json")
    first, second, third = _data(out)["items"]

    assert (code, first["file"], second["file"], second["primary"]) == (0, "a.json", "b.json", "rag")
    assert first["error"]["helps"][0].startswith("did you mean lacks_knowledge")
    assert third["error"]["code"] == "P0102"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--fact", "n_labeled=3"), "did you mean n_labelled"),
        (("--fact", "privacy=clod"), "allowed: cloud_ok, vpc_only, on_prem, offline_device"),
        (("--fact", "n_labelled=0", "--fact", "label_quality=gold"), "leave out the one that is not so"),
        (("--fact", "n_labelled"), "write it as name=value"),
        (("--fact", "a=1", "--fact", "privacy=x"), "2 facts cannot be used"),
        (("--gpu", "H900"), "there is no GPU called 'H900'"),
        (("--model", "Qwen/Qwen9"), "there is no model called"),
        (("--vram", "nan"), "vram_gb=nan is not a value"),
        (("--fact", "privacy=\x1b[31m"), "privacy=\u241b[31m is not a value"),
        (("--answers", "nowhere.toml"), "the file cannot be read"),
    ],
)
def test_bad_input_is_named_with_what_to_do_and_exits_with_two(advisor, words, said):
    code, out, err = advisor("recommend", *words)

    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", '{"a": NaN}', "[" * 100_000])
def test_a_broken_facts_file_is_an_error_in_json_too(advisor, tmp_path, text):
    path = tmp_path / "facts.json"
    path.write_text(text, encoding="utf-8")
    code, out, _ = advisor("recommend", "--facts", str(path), "--json")

    assert (code, json.loads(out)["schema"]) == (2, "advisor/error/1")


def test_a_file_that_is_no_report_is_refused(advisor, tmp_path):
    path = tmp_path / "report.json"
    path.write_text('{"run": 1}', encoding="utf-8")
    code, _, err = advisor("recommend", "--report", str(path))

    assert (code, "this is no report of ours" in err) == (2, True)


@pytest.mark.parametrize(
    ("found", "facts"),
    [
        (Hardware("cpu", "CPU", 8 * GIB), {"gpus": 0}),
        (Hardware("cuda", "an odd card", round(22.8 * GIB), count=2), {"gpus": 2, "vram_gb": 24}),
    ],
    ids=["none", "two"],
)
def test_the_cards_of_this_computer_become_facts_where_they_are_asked_for(advisor, monkeypatch, found, facts):
    monkeypatch.setattr("advisor.catalog.gpus.detect", lambda: found)
    told = _data(advisor("recommend", "--gpu", "here", "--json")[1])["facts"]

    assert {name: row["value"] for name, row in told.items()} == facts
    assert {row["origin"] for row in told.values()} == {"detected"}


def test_the_vocabulary_is_listed(advisor):
    _, out, _ = advisor("recommend", "--vocabulary")

    assert "label_quality" in out
    assert "gold, mixed, noisy" in out


def test_the_vocabulary_says_of_each_fact_what_is_asked_why_and_how_to_find_out(advisor):
    rows = _data(advisor("recommend", "--vocabulary", "--json")[1])["vocabulary"]

    assert [row["name"] for row in rows] == list(FACTS)
    for row in rows:
        assert all(
            row[key] for key in ("kind", "allowed", "question", "minutes", "means", "text", "why", "analogy")
        )
        assert row["measure"]
        assert sum(each["weight"] for each in row["prior"]) == pytest.approx(1 if row["prior"] else 0)


def test_mermaid_labels_are_quoted_because_the_source_has_parentheses(advisor):
    _, out, _ = advisor("graph", "--format", "mermaid")

    assert 'FT["Fine-Tuning (Knowledge Injection)"]' in out
    assert 'Q1 -->|"Yes"| Q2' in out


@pytest.mark.parametrize("form", ["text", "mermaid", "dot", "json"])
@pytest.mark.parametrize("mode", ["--classic", "--expert"])
def test_the_graph_is_drawn_in_every_form(advisor, form, mode):
    code, out, err = advisor("graph", mode, "--format", form)

    assert (code, err) == (0, "")
    assert ("u_update" in out) == (mode == "--expert")


def test_the_check_finds_the_gap_of_the_source_tree_and_none_in_ours(advisor):
    assert advisor("graph", "--check")[0] == 0
    assert advisor("graph", "--check", "--classic")[:2] == (1, "'Q4' has no edge for No\n")


def test_every_edge_in_json_says_when_why_and_who(advisor):
    _, out, _ = advisor("graph", "--expert", "--json")

    assert all(edge["when"] and edge["why"] and edge["source"] for edge in _data(out)["edges"])


def test_no_prompt_is_ever_shown():
    from advisor.cli.recommend import command

    done = CliRunner().invoke(command, [], input="")

    assert (done.exit_code, "?" in done.output.splitlines()[0]) == (0, False)
