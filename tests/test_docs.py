"""The documentation: its links lead somewhere, its commands exist, its samples are read, its generated pages are fresh."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from advisor.cli import cli
from advisor.data.convert import convert

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
GENERATED = (
    "en/reference/recipe.md",
    "en/reference/commands.md",
    "en/reference/decision.md",
    "en/reference/rules.md",
)
BOTH = (
    "index.md",
    "methods.md",
    "engine.md",
    "memory.md",
    "devices.md",
    "data.md",
    "evaluation.md",
    "lantern-bay.md",
)
FENCE = re.compile(r"^```(\S+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`[^`\n]*`")


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(page, *languages):
    """Language, further words and text of each fenced block of these languages."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [(language, words.strip(), text) for language, words, text in found if language in languages]


def prose(page):
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page):
    """What a heading can be linked by, as GitHub spells it."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(page):
    """The words of each `advisor` command in the page's shell blocks."""
    for _, _, text in blocks(page, "bash"):
        for line in text.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words = []
            for word in [*lexer, ";"]:
                if set(word) <= set("();<>|&"):
                    if words and Path(words[0]).name == "advisor":
                        yield words[1:]
                    words = []
                else:
                    words.append(word)


def parsed(command, words, parent=None):
    """Parse the words as click does, without running callbacks or asking whether files exist."""
    ctx = click.Context(command, info_name=command.name, parent=parent)
    options, rest, _ = command.make_parser(ctx).parse_args(list(words))
    for param in command.params:
        value = options.get(param.name)
        if isinstance(param.type, click.Path) or value is None:
            assert not (param.required and value is None), f"{param.name} is missing"
        else:
            param.type_cast_value(ctx, value)
    if isinstance(command, click.Group) and rest:
        inner = command.get_command(ctx, rest[0])
        assert inner is not None, f"no command {rest[0]}"
        parsed(inner, rest[1:], ctx)
    else:
        assert not rest, f"left over: {rest}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page):
    for target in LINK.findall(CODE.sub("", prose(page))):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page

        assert goal.exists(), target
        assert goal.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(goal), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_is_shown_can_be_typed(page):
    for words in commands(page):
        parsed(cli, words)


def test_a_command_that_does_not_exist_is_found():
    with pytest.raises(click.NoSuchOption):
        parsed(cli, ["recommend", "--no-such-thing"])
    with pytest.raises(click.BadParameter):
        parsed(cli, ["demo", "--task", "nothing"])


def test_both_languages_have_the_same_pages():
    english = {str(path.relative_to(DOCS / "en")) for path in (DOCS / "en").glob("*.md")}
    chinese = {str(path.relative_to(DOCS / "zh")) for path in (DOCS / "zh").glob("*.md")}

    assert english == set(BOTH)
    assert chinese == {*BOTH, "readme.md"}  # the English one is the README of the repository


@pytest.mark.parametrize("name", BOTH)
def test_both_languages_show_the_same_commands_and_samples(name):
    here, there = DOCS / "en" / name, DOCS / "zh" / name

    assert list(commands(there)) == list(commands(here))
    assert blocks(there, "jsonl", "csv", "json", "python") == blocks(here, "jsonl", "csv", "json", "python")
    assert len(re.findall(r"^## ", prose(there), re.MULTILINE)) == len(
        re.findall(r"^## ", prose(here), re.MULTILINE)
    )


@pytest.mark.parametrize("number", range(len(blocks(DOCS / "en/data.md", "jsonl", "csv"))))
def test_every_sample_of_data_is_read_as_what_the_page_calls_it(tmp_path, number):
    ending, wanted, text = blocks(DOCS / "en/data.md", "jsonl", "csv")[number]
    path = tmp_path / f"sample.{ending}"
    path.write_text(text, encoding="utf-8")

    found = convert(path)

    assert found.format == wanted
    assert not [finding for finding in found.findings if finding.blocking]
    assert len(found.rows) == len(text.strip().splitlines()) - (ending == "csv")


def test_the_pages_made_from_the_code_are_fresh(tmp_path):
    subprocess.run([sys.executable, DOCS / "make_reference.py", tmp_path], check=True, cwd=tmp_path)

    for name in GENERATED:
        made = (tmp_path / name).read_text(encoding="utf-8")
        assert made == (DOCS / name).read_text(encoding="utf-8"), "run: python docs/make_reference.py"


@pytest.mark.filterwarnings("ignore")  # the page's code runs in other people's libraries
def test_the_code_of_methods_loads_an_adapter_and_merges_it(tmp_path, monkeypatch, capsys):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from advisor.learn.lantern.base import base_dir

    monkeypatch.chdir(tmp_path)
    Path("lantern-base").symlink_to(base_dir())
    torch.manual_seed(0)
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained("lantern-base"), LoraConfig(target_modules="all-linear")
    )
    tuned.save_pretrained("runs/tone/output")
    AutoTokenizer.from_pretrained("lantern-base").save_pretrained("runs/tone/output")
    script = "\n".join(text for _, _, text in blocks(DOCS / "en/methods.md", "python"))
    Path("shown.py").write_text(script, encoding="utf-8")

    runpy.run_path("shown.py")

    assert "kilos" in capsys.readouterr().out
    assert Path("tone-merged/model.safetensors").is_file()
