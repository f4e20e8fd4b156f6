"""The starting kit: complete for every plan, in both languages, inert, and never written over what a person edited."""

import json
import re
from importlib.resources import files as resources

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from advisor.cli import main
from advisor.decide.advise import advise
from advisor.decide.answers import parse
from advisor.decide.minimum import BANDS, band
from advisor.decide.predicates import MINIMUM, TOO_FEW
from advisor.show.kit import EVAL, files
from advisor.text import language, use
from recipes.rows import Check
from recipes.write import guide, span

PAGES = ("start", "prompt", "rag", "evaluation", "data")
UNTRAINED = {
    "prompt_engineering": ({"prompt_can_fix": "yes"}, {"prompt.md"}),
    "few_shot": ({"lacks_style_format": "yes", "prompt_can_fix": "yes"}, {"prompt.md"}),
    "structured_output": (
        {"lacks_style_format": "yes", "prompt_can_fix": "no", "output_strictness": "json_schema"},
        {"prompt.md"},
    ),
    "long_context": (
        {"lacks_knowledge": "yes", "knowledge_change": "static", "corpus_tokens": 50_000, "context_window": 200_000},
        {"prompt.md"},
    ),
    "rag": ({"lacks_knowledge": "yes", "knowledge_change": "daily"}, {"rag.md"}),
    "get_data": ({"needs_safety_alignment": "yes", "lacks_style_format": "no", "lacks_knowledge": "no"}, {"data.md"}),
    "build_eval": ({"eval_set_size": 3}, set()),
    "rethink": ({"prompt_success": 0.1}, {"prompt.md"}),
    "managed_ft": (
        {"lacks_style_format": "yes", "prompt_can_fix": "no", "n_labelled": 800, "provider_ft_available": "yes",
         "team_skill": "api"},
        {"data.md", "prompt.md"},
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def english():
    before = language()
    use("en")
    yield
    use(before)


def _kit(**facts):
    answers = parse(facts)
    return {name: content.decode() for name, content in files(advise(answers), answers).items()}


@pytest.mark.parametrize("code", ["en", "zh"])
@pytest.mark.parametrize(("leaf", "wanted"), UNTRAINED.items(), ids=UNTRAINED)
def test_each_leaf_that_is_not_trained_has_its_pages(leaf, wanted, code):
    use(code)
    facts, pages = wanted

    assert advise(parse(facts)).primary == leaf
    assert {"start.md", "evaluation.md", EVAL} | pages <= set(_kit(**facts))


def test_the_start_names_every_other_file_and_when_to_come_back():
    kit = _kit(**UNTRAINED["rag"][0])

    assert all(f"`{name}`" in kit["start.md"] for name in kit if name != "start.md")
    assert "When to come back" in kit["start.md"]


def test_the_prompt_page_has_slots_for_examples_and_a_regression_set():
    page = _kit(**UNTRAINED["few_shot"][0])["prompt.md"]

    assert page.count("Output: <the ideal output>") == 5
    assert "## Regression set" in page


def test_the_retrieval_page_measures_retrieval_apart_and_tries_the_right_passage_by_hand():
    page = _kit(**UNTRAINED["rag"][0])["rag.md"]

    assert "recall@5" in page
    assert "Paste the right passage by hand" in page


def test_what_is_known_shapes_the_retrieval_page():
    facts = {**UNTRAINED["rag"][0], "needs_citations": "yes", "per_user_access_control": "yes"}
    page = _kit(**facts)["rag.md"]

    assert "filtered by the rights of the user" in page
    assert "with the source of each statement" in page


def test_the_pass_rule_uses_the_stated_target_and_says_where_there_is_none():
    assert "97.5 % of the items pass." in _kit(prompt_success=0.5, target_success=0.975)["evaluation.md"]
    assert "nobody has named a target yet" in _kit(eval_set_size=3)["evaluation.md"]


def test_the_test_set_reads_as_our_rows_with_their_checks(tmp_path, capsys):
    path = tmp_path / EVAL
    path.write_text(_kit(eval_set_size=3)[EVAL], encoding="utf-8")
    with pytest.raises(SystemExit):
        main(("data", "check", str(path)))
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    assert "0 errors" in capsys.readouterr().out
    assert all(Check.model_validate(check) for row in rows for check in row["checks"])
    assert any("context" in row for row in rows)


def test_the_data_plan_shows_the_whole_table_and_marks_the_row_that_applies():
    facts = {
        "lacks_style_format": "yes",
        "n_labelled": 800,
        "task_type": "translation",
        "prompt_can_fix": "no",
    }
    page = _kit(**facts, style_stable="yes", teacher_available="no")["data.md"]

    assert "there are 800, so 4,200 are missing" in page
    assert "| **translation, in-house text to text** | below 5,000 | 5,000-15,000 | 100,000+ | Vieira" in page
    assert page.count("| below ") == len(BANDS)


def test_the_table_and_the_rules_name_the_same_minimum():
    for task, least in MINIMUM.items():
        assert next(row for row in BANDS if task in row.tasks).workable[0] == least
    assert BANDS[0].too_few == TOO_FEW


def test_an_objective_with_needs_of_its_own_goes_before_the_task():
    assert band(parse({"task_type": "translation"}), "dpo").leaves == {"dpo"}
    assert "translation" in band(parse({"task_type": "translation"}), "sft_lora").tasks


@pytest.mark.parametrize("page", PAGES)
def test_both_languages_say_the_same_with_the_same_values(page):
    def shape(code):
        text = (
            resources("recipes").joinpath("templates", "guide", f"{page}.{code}.md.jinja").read_text("utf-8")
        )
        marks = [line.split(" ")[0] for line in text.splitlines() if line.startswith(("#", "-", "|---", "1"))]
        return marks, sorted(re.findall(r"{[{%].*?[}%]}", text))

    assert shape("en") == shape("zh")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("code", ["en", "zh"])
def test_a_value_that_is_missing_is_an_error_and_never_an_empty_place(page, code):
    with pytest.raises(UndefinedError):
        guide(page, code, {})


@given(st.text(min_size=1).filter(str.strip))
def test_what_a_person_wrote_stays_one_code_span(text):
    page = _kit(cost_of_failure=text, eval_set_size=3)["evaluation.md"]

    assert re.findall(r"^#+ .*$", page, re.MULTILINE) == [
        "# Test set",
        "## Pass/fail rule",
        "## Kinds of check",
    ]


@pytest.mark.parametrize(
    ("ends", "written"), [((1, 2), "1-2"), ((1000, 1000), "1,000"), ((5000, None), "5,000+")]
)
def test_a_range_is_written_as_people_do(ends, written):
    assert span(ends) == written


def _run(*words):
    with pytest.raises(SystemExit) as ended:
        main(("recommend", "--fact", "lacks_knowledge=yes", *words))
    return ended.value.code


def test_the_command_writes_the_kit_and_names_its_files(tmp_path, capsys):
    folder = tmp_path / "new" / "kit"
    ended = _run("--kit", str(folder), "--json")
    told = json.loads(capsys.readouterr().out)["data"]["written"]

    assert (ended, sorted(told)) == (0, sorted(map(str, folder.iterdir())))


def test_a_kit_that_was_edited_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "rag.md").write_text("mine", encoding="utf-8")
    ended = _run("--kit", str(tmp_path))

    assert (ended, "rag.md" in capsys.readouterr().err) == (2, True)
    assert [file.name for file in tmp_path.iterdir()] == ["rag.md"]
    assert (tmp_path / "rag.md").read_text(encoding="utf-8") == "mine"
