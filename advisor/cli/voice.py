"""How a command speaks: the result on stdout, notes and errors on stderr, one JSON envelope."""

import json
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from io import TextIOWrapper
from math import isfinite
from pathlib import Path

import click

from advisor.errors import NothingFits
from advisor.show import failure as say
from advisor.text import inert, t
from recipes.errors import Failure, RecipeError
from recipes.words import N_

try:
    VERSION = version("finetune-advisor")
except PackageNotFoundError:  # run from a source tree that was never installed
    VERSION = "0+source"

SHOWN_PROBLEMS = 20
"""More lines of one kind than this help nobody; the count is still told."""


def prepare() -> None:
    """Write what the terminal's encoding cannot say as an escape sequence: a name in Chinese ends no command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def envelope(command: str, data: object) -> None:
    """Print `data` (JSON-ready) as the one object on stdout: schema `advisor/<command>/1`."""
    body = {"schema": f"advisor/{command}/1", "version": VERSION, "data": data}
    click.echo(json.dumps(body, ensure_ascii=True, allow_nan=False, indent=2).replace("\x7f", "\\u007f"))


def note(text: str, **values: object) -> None:
    """Say something beside the result, on stderr."""
    _first_the_result()
    click.echo(t(N_("note: ")) + inert(t(text, **values)), err=True)


def fail(failure: Failure, *, as_json: bool) -> None:
    """Say what is wrong, where, and what to do."""
    problem, remedy = say.problem(failure), say.remedy(failure)
    lines = _lines(failure)
    if as_json:
        data = {"code": failure.code, "severity": "error", "message": problem, "path": failure.where or None}
        envelope(
            "error",
            {**data, "notes": lines, "helps": [remedy] if remedy else [], "details": _values(failure)},
        )
        return
    _error(failure.code, problem, failure.where, lines, remedy)


def fail_usage(problem: click.ClickException, *, as_json: bool) -> None:
    """Say what is wrong with the command line itself."""
    context = getattr(problem, "ctx", None)
    remedy = t(N_("see `{command} --help`"), command=context.command_path if context else "advisor")
    if as_json:
        data = {"code": "P0001", "severity": "error", "message": problem.format_message(), "path": None}
        envelope("error", {**data, "notes": [], "helps": [remedy], "details": {}})
        return
    _error("P0001", problem.format_message(), "", [], remedy)


def crash(bug: Exception, *, as_json: bool) -> None:
    """Write the traceback to a file and name the file."""
    name = f"advisor-crash-{time.strftime('%Y%m%dT%H%M%S')}-"
    with tempfile.NamedTemporaryFile("w", prefix=name, suffix=".txt", delete=False, encoding="utf-8") as file:
        traceback.print_exception(bug, file=file)
    problem = t(N_("a fault of this program, not of yours: {kind}"), kind=type(bug).__name__)
    remedy = t(N_("please report it with the file {path}"), path=file.name)
    if as_json:
        data = {"code": "B0001", "severity": "bug", "message": problem, "path": str(Path(file.name))}
        envelope("error", {**data, "notes": [], "helps": [remedy], "details": {}})
        return
    _error("B0001", problem, "", [], remedy)


def _first_the_result() -> None:
    """Keep the order of both streams; whether stdout can be written is told once, at the end."""
    with suppress(OSError):
        if sys.stdout is not None:  # None where it was closed by whoever called
            sys.stdout.flush()


def _lines(failure: Failure) -> list[str]:
    """What stands between problem and remedy: every problem of a recipe, every change that would help."""
    if isinstance(failure, NothingFits):
        return [t(change.text, **change.values) for change in failure.changes]
    return _problems(failure) if isinstance(failure, RecipeError) else []


def _problems(failure: RecipeError) -> list[str]:
    said = [
        f"{failure.where}{f':{p.line}' if p.line else ''}: {t(p.text, **p.values)}" for p in failure.problems
    ]
    more = len(said) - SHOWN_PROBLEMS
    return said[:SHOWN_PROBLEMS] + ([t(N_("... and {more} more"), more=more)] if more > 0 else [])


def _values(failure: Failure) -> Mapping[str, object]:
    """The values of the sentence as JSON can hold them: it has no word for infinity, and none for nan."""
    return {
        name: str(value) if isinstance(value, float) and not isfinite(value) else value
        for name, value in failure.values.items()
    }


def _error(code: str, problem: str, where: str, notes: list[str], remedy: str) -> None:
    _first_the_result()
    with suppress(OSError):  # nobody may hear it; the exit code says it all the same
        click.echo(f"{t(N_('error'))}[{code}]: {inert(problem)}", err=True)
        if where:
            click.echo(f"  --> {inert(where)}", err=True)
        for line in notes:
            click.echo(f"     = {inert(line)}", err=True)
        if remedy:
            click.echo(f"{t(N_('help'))}: {inert(remedy)}", err=True)
