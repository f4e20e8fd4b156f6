"""The decision record: complete, in the reader's language, and inert whatever the facts hold."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.cli import main
from advisor.decide.advise import advise
from advisor.decide.answers import parse
from advisor.show.record import markdown
from advisor.text import language, use
from recipes.write import code, plain

SECTIONS = ["Problem", "Facts", "Advice", "Why", "Plan", "Doubt", "Warnings", "What would change it", "Alternatives",
            "Struck out", "Find out next", "Stop rule"]  # fmt: skip
FACTS = {
    "lacks_style_format": "yes",
    "n_labelled": 800,
    "label_quality": "gold",
    "vram_gb": 24,
    "model_params_b": 7,
}
HOSTILE = "\x1b[2J<script>alert(1)</script> [x](http://evil) ```` | # @all\n# heading\n- [ ] item\u202e"


@pytest.fixture(autouse=True)
def english():
    before = language()
    use("en")
    yield
    use(before)


def _record(**facts):
    answers = parse(facts)
    return markdown(advise(answers), answers, date="2026-11-20", version="1.2.3")


def test_the_record_has_every_part_in_its_order():
    assert re.findall(r"^## (.*)$", _record(**FACTS), re.MULTILINE) == SECTIONS


def test_it_says_when_and_by_which_version_and_where_each_fact_came_from():
    page = _record(**FACTS)

    assert "2026-11-20, finetune-advisor 1.2.3" in page
    assert "- `n_labelled` = `800` (said)" in page


def test_the_way_carries_sources_and_grades_and_the_plan_its_obligations():
    page = _record(**FACTS)

    assert "evidence A" in page
    assert "   - [ ] set rows aside before training, by group" in page


def test_a_record_about_nothing_says_that_nothing_is_known():
    assert "Nothing is said yet" in _record()


@pytest.mark.parametrize("facts", [{}, FACTS, {"cost_of_failure": "a lawsuit", "prompt_success": 0.1}])
def test_the_record_is_written_in_chinese_too(facts):
    use("zh")
    page = _record(**facts)

    assert page.startswith("# 决策记录：")
    assert "## 停止规则" in page


def test_hostile_text_stays_inside_one_code_span():
    page = _record(**FACTS, cost_of_failure=HOSTILE)
    lines = [line for line in page.splitlines() if "script" in line]

    assert all(line.startswith("- ") for line in lines)
    assert all("`````" in line for line in lines)
    assert not {"\x1b", "\u202e"} & set(page)
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == SECTIONS


@given(st.text())
def test_a_code_span_holds_whatever_it_is_given_on_one_line(text):
    span = code(text)
    fence = re.match("`+", span).group()

    assert len(span.splitlines()) == 1
    assert span.endswith(fence)
    assert fence not in re.findall("`+", span[len(fence) : -len(fence)])


@given(st.text())
def test_plain_text_has_no_mark_left_that_is_not_escaped(text):
    written = plain(text)

    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]|<>]", re.sub(r"&(lt|gt|amp);", "", written))
    assert len(written.splitlines()) <= 1


def _run(*words):
    with pytest.raises(SystemExit) as ended:
        main(("recommend", *words))
    return ended.value.code


def test_the_command_writes_the_record_beside_the_advice(tmp_path, capsys):
    page = tmp_path / "record.md"
    ended = _run("--fact", "lacks_knowledge=yes", "--record", str(page))
    out, err = capsys.readouterr()

    assert (ended, out.startswith("Advice: "), str(page) in err.replace("\n", "")) == (0, True, True)
    assert page.read_text(encoding="utf-8").startswith("# Decision record: Look the facts up")
    assert [file.name for file in tmp_path.iterdir()] == ["record.md"]


def test_a_record_that_cannot_be_written_leaves_the_old_one_alone(tmp_path, capsys):
    ended = _run("--fact", "lacks_knowledge=yes", "--record", str(tmp_path / "no" / "record.md"))
    err = capsys.readouterr().err

    assert (ended, "error[" in err, "Traceback" in err) == (4, True, False)


def test_a_folder_of_facts_has_no_single_record(tmp_path, capsys):
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")

    assert _run("--facts-dir", str(tmp_path), "--record", str(tmp_path / "r.md")) == 2
    assert "--facts FILE" in capsys.readouterr().err
