"""What a linter cannot hold: the shape of the house, and what help is allowed to load."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from advisor.cli import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGES = ("advisor", "recipes", "trainers")
TOP_LEVEL = {
    "advisor", "recipes", "trainers", "tests", "docs", "benchmarks", ".ci",
    "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE",
    ".gitignore", "babel.cfg", "hatch_build.py",
}  # fmt: skip
HEAVY_FOR_HELP = ("torch", "textual", "networkx", "jinja2", "pydantic", "rich", "transformers")
HEAVY_FOR_ADVICE = ("torch", "transformers", "peft", "bitsandbytes", "datasets", "accelerate", "textual")
MODULES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))


def _loaded(code: str) -> set[str]:
    """The top-level modules that `code` leaves loaded in a fresh interpreter."""
    report = f"import sys, json, io\n{code}\nprint('\\n' + json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def _quietly(*words: str) -> str:
    return f"""
from contextlib import redirect_stdout, redirect_stderr
from advisor.cli import main
with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
    try:
        main({list(words)!r})
    except SystemExit:
        pass
"""


def test_the_top_level_tells_the_story_and_nothing_else():
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=False).stdout
    if not listed:
        pytest.skip("not a git checkout")

    assert {Path(name).parts[0] for name in listed.splitlines()} <= TOP_LEVEL


def test_help_loads_nothing_heavy():
    assert not _loaded(_quietly("--help")) & set(HEAVY_FOR_HELP)


def test_advice_never_loads_the_trainers_libraries():
    assert not _loaded(_quietly("recommend", "--vram", "24", "--json")) & set(HEAVY_FOR_ADVICE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_loads_no_torch(name):
    done = subprocess.run(
        [sys.executable, "-m", "advisor", name, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: advisor " + name in done.stdout


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_in_its_first_line_what_it_is_for(path):
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))

    assert said and said.splitlines()[0].endswith((".", ":", ";", "?"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_evaluates_text_or_starts_a_shell(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""

            assert name not in {"eval", "exec"}
            assert not any(word.arg == "shell" for word in node.keywords)
