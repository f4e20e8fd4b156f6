"""`advisor data`: check a dataset, preview what is trained, convert it to rows."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from advisor import reading
from advisor.cli import voice
from advisor.data import store, tokens
from advisor.data.checks import check as checked
from advisor.data.convert import SURE, Converted, convert
from advisor.data.findings import Finding
from advisor.errors import BadValue
from advisor.show import data as show
from advisor.text import N_, inert, t
from recipes.exits import Exit
from recipes.rows import Row

FILE = click.argument("file", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help=t(N_("One JSON object on stdout.")))
MAP = click.option(
    "--map",
    "pairs",
    multiple=True,
    metavar="PLACE=COLUMN",
    help=t(N_("Which column fills which place, such as prompt=question; repeatable.")),
)
STOP = "<end>"
"""What ends an answer in a preview where no tokenizer says its name."""


@click.group(help=t(N_("Check a dataset, preview what is trained, or convert it to rows.")))
def command() -> None:
    """Group what is done with data before anything is trained."""


@command.command(
    "check", help=t(N_("Say what is wrong with FILE, with lines. Exit code 1 if there is something."))
)
@FILE
@MAP
@click.option(
    "--fail-on",
    type=click.Choice(["warning", "error"]),
    default="warning",
    show_default=True,
    help=t(N_("From which level on findings mean exit code 1.")),
)
@JSON
@click.pass_context
def check(ctx: click.Context, file: Path, pairs: Sequence[str], fail_on: str, as_json: bool) -> None:
    """Read, convert, check; the file is only read."""
    converted = convert(file, mapping=mapping(pairs))
    found = (*converted.findings, *checked(converted.rows))
    if as_json:
        voice.envelope("data-check", _told(file, converted, found))
    else:
        click.echo(show.heading(converted))
        if text := show.findings(found):
            click.echo(text)
        click.echo(show.summary(found, _left_out(found)))
    grave = {"error"} if fail_on == "error" else {"error", "warning"}
    ctx.exit(Exit.NO if any(finding.level in grave for finding in found) else Exit.OK)


@command.command("preview", help=t(N_("Show the first rows of FILE and mark which text is trained.")))
@FILE
@MAP
@click.option(
    "--rows", type=click.IntRange(1, 1000), default=3, show_default=True, help=t(N_("How many rows."))
)
@click.option(
    "--model",
    "model_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help=t(N_("A model directory: its tokenizer counts, and names the token that ends an answer.")),
)
@click.option(
    "--tokens",
    "exact",
    is_flag=True,
    help=t(N_("Token by token, with the model's chat template, as a run would train it (needs --model).")),
)
@JSON
def preview(
    file: Path, pairs: Sequence[str], rows: int, model_dir: Path | None, exact: bool, as_json: bool
) -> None:
    """Convert, and show the first rows as the trainer sees them."""
    if exact and model_dir is None:
        raise BadValue(
            N_("only a model says what its tokens are"), remedy=N_("name its directory with --model DIR")
        )
    converted = convert(file, mapping=mapping(pairs))
    first = converted.rows[:rows]
    if exact and model_dir is not None:
        _exactly(converted, first, model_dir, as_json=as_json)
        return
    counter = tokens.tokenizer(model_dir)
    sizes = [(counter or tokens.estimated)([turn.content for turn in row.messages]) for row in first]
    if as_json:
        counted = "tokenizer" if counter else "estimated"
        shown = [_shown(row, size) for row, size in zip(first, sizes, strict=True)]
        voice.envelope("data-preview", {"format": converted.format, "counted": counted, "rows": shown})
        return
    click.echo(show.heading(converted))
    click.echo()
    click.echo(show.preview(first, sizes, _stop(model_dir)))
    if counter is None:
        voice.note(N_("tokens (in brackets) are estimated from characters; --model DIR counts them"))


def _exactly(converted: Converted, rows: Sequence[Row], model: Path, *, as_json: bool) -> None:
    """Show what the trainer itself says."""
    from advisor.run.masks import masks

    found = masks(rows, model)
    if as_json:
        shown = [asdict(one) for one in found]
        voice.envelope("data-preview", {"format": converted.format, "counted": "trainer", "rows": shown})
        return
    click.echo(show.heading(converted))
    click.echo()
    click.echo(show.masked(found), color=False if os.environ.get("NO_COLOR") else None)


@command.command("convert", help=t(N_("Write FILE as rows (JSON Lines), the one form that trainers read.")))
@FILE
@MAP
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help=t(N_("The file to write; it must not exist yet.")),
)
@click.option("-n", "--dry-run", is_flag=True, help=t(N_("Say what would be written; write nothing.")))
@JSON
def convert_(file: Path, pairs: Sequence[str], output: Path, dry_run: bool, as_json: bool) -> None:
    """Convert, say what was left out, write."""
    if output.exists() or output.is_symlink():  # a link to nowhere would be replaced
        raise BadValue(
            N_("the file exists already"), remedy=N_("choose another name with -o"), where=str(output)
        )
    converted = convert(file, mapping=mapping(pairs))
    warn(converted)
    total = None if dry_run else store.write(output, converted.rows)
    if as_json:
        data = {"path": str(output), "rows": len(converted.rows), "format": converted.format, "sha256": total}
        voice.envelope("data-convert", {**data, "left_out": _left_out(converted.findings)})
        return
    text = N_("would write {count} rows to {path}") if dry_run else N_("{count} rows written to {path}")
    click.echo(t(text, count=len(converted.rows), path=inert(str(output))))


def mapping(pairs: Sequence[str]) -> dict[str, str] | None:
    """`place=column` words as a mapping, or None where there are none.

    Raises:
        BadValue: A word without an equals sign.
    """
    found = {}
    for pair in pairs:
        place, mark, column = pair.partition("=")
        if not (place and mark and column):
            raise BadValue(
                N_("{pair!r} does not say which column fills which place"),
                remedy=N_("write it as PLACE=COLUMN, such as prompt=question"),
                pair=pair,
            )
        found[place.strip()] = column.strip()
    return found or None


def warn(converted: Converted) -> None:
    """Say on stderr what was left out, and whether the format is in doubt."""
    if left_out := _left_out(converted.findings):
        first = next(finding for finding in converted.findings if finding.blocking)
        voice.note(
            N_("{count} records were left out; the first: {place}: {reason}"),
            count=left_out,
            place=first.place,
            reason=t(first.message, **first.values),
        )
    if converted.confidence < SURE:
        voice.note(
            N_(
                "read as {format}, but only {percent} % of the file fits that clearly: see `advisor data preview`"
            ),
            format=converted.format,
            percent=f"{100 * converted.confidence:.0f}",
        )


def _left_out(found: Sequence[Finding]) -> int:
    return sum(finding.blocking for finding in found)


def _told(file: Path, converted: Converted, found: Sequence[Finding]) -> dict[str, object]:
    levels = Counter(finding.level for finding in found)
    return {
        "file": str(file),
        "format": converted.format,
        "confidence": converted.confidence,
        "rows": len(converted.rows),
        "left_out": _left_out(found),
        "counts": {level: levels[level] for level in ("error", "warning", "info")},
        "findings": [
            {**asdict(finding), "level": finding.level, "message": t(finding.message, **finding.values)}
            for finding in found
        ],
    }


def _shown(row: Row, sizes: Sequence[int]) -> dict[str, object]:
    turns = [
        {"role": turn.role, "content": turn.content, "trained": tokens.is_trained(turn), "tokens": size}
        for turn, size in zip(row.messages, sizes, strict=True)
    ]
    return {"file": row.source.file, "line": row.source.line, "kind": row.kind, "turns": turns}


def _stop(model_dir: Path | None) -> str:
    """The token that ends an answer, as the tokenizer's configuration names it."""
    try:
        told = json.loads(reading.text(model_dir / "tokenizer_config.json")) if model_dir else {}
    except (OSError, ValueError):
        return STOP
    name = told.get("eos_token") if isinstance(told, dict) else None
    name = name.get("content") if isinstance(name, dict) else name
    return name if isinstance(name, str) else STOP
