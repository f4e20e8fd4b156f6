"""`advisor runs`: what became of past runs, and how to speak to one that goes."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from advisor.cli import voice, watch
from advisor.errors import BadValue
from advisor.run import shelf, start
from advisor.show import merge as show_merge
from advisor.show import report as show_report
from advisor.show import run as show_run
from advisor.show.columns import columns
from advisor.text import N_, inert, t

ROOT = click.option(
    "--runs",
    "root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help=t(N_("The folder of runs.")),
)
NAME = click.argument("name", metavar="RUN")
JSON = click.option("--json", "as_json", is_flag=True, help=t(N_("Print JSON.")))


@click.group(
    help=t(
        N_("List past runs, show a report, attach, pause, resume, stop or remove. Part of a name is enough.")
    )
)
def command() -> None:
    """Hold the commands below."""


@command.command("list", help=t(N_("List the runs of a folder, the newest first.")))
@ROOT
@JSON
def list_(root: Path, as_json: bool) -> None:
    """Print a table."""
    found = shelf.entries(root)
    if as_json:
        voice.envelope("runs-list", [_data(one) for one in found])
        return
    if not found:
        voice.note(N_("there is no run in {root}"), root=str(root))
    for line in columns(
        [(e.name, t(show_run.STATES[e.state]), _steps(e), e.verdict or "-", e.model) for e in found]
    ):
        click.echo(line)


@command.command(help=t(N_("Show the report of a run, or how far it came.")))
@NAME
@ROOT
@JSON
def show(name: str, root: Path, as_json: bool) -> None:
    """Print the receipt."""
    run = shelf.find(root, name)
    state = shelf.entry(run.path)
    if state.state != "done":
        _so_far(state, as_json=as_json)
        return
    report = shelf.report(run)
    if as_json:
        voice.envelope("runs-show", report.model_dump(mode="json"))
    else:
        click.echo(show_report.text(report))


@command.command(help=t(N_("Watch a run that goes; Ctrl-C leaves it running.")))
@NAME
@ROOT
@JSON
@click.pass_context
def attach(ctx: click.Context, name: str, root: Path, as_json: bool) -> None:
    """Follow from the beginning of the last attempt."""
    ctx.exit(watch.attached(shelf.find(root, name), as_json=as_json))


@command.command(help=t(N_("Ask a run to wait after its step.")))
@NAME
@ROOT
def pause(name: str, root: Path) -> None:
    """Leave the wish."""
    run = shelf.find(root, name)
    shelf.wish(run, "pause")
    voice.note(
        N_("{run} waits after its present step; go on with: advisor runs resume {run}"), run=run.path.name
    )


@command.command(
    help=t(N_("Let a paused run go on. (A run that ended goes on with: advisor train --resume RUN)"))
)
@NAME
@ROOT
def resume(name: str, root: Path) -> None:
    """Take the wish back."""
    run = shelf.find(root, name)
    shelf.resume(run)
    voice.note(N_("{run} goes on"), run=run.path.name)


@command.command(help=t(N_("Ask a run to stop after its step, and save.")))
@NAME
@ROOT
def stop(name: str, root: Path) -> None:
    """Leave the wish."""
    run = shelf.find(root, name)
    shelf.wish(run, "stop")
    voice.note(N_("{run} stops after its present step, and saves"), run=run.path.name)


@command.command(help=t(N_("Merge the adapter of a run into its base: one whole model in a new directory.")))
@NAME
@ROOT
@JSON
@click.option(
    "-o",
    "--output",
    "out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help=t(N_("The directory of the merged model: new or empty.")),
)
@click.pass_context
def merge(ctx: click.Context, name: str, root: Path, out: Path, as_json: bool) -> None:
    """Let the trainer merge, and say what it measured."""
    found = start.merged(shelf.find(root, name), out)
    if isinstance(found, int):
        ctx.exit(found)
    if as_json:
        voice.envelope("runs-merge", {**found, "output": str(out)})
        return
    for line in show_merge.merged(found, str(out)):
        click.echo(line)


@command.command(help=t(N_("Delete a run that does not go, with its checkpoints.")))
@NAME
@ROOT
@click.option("-y", "--yes", is_flag=True, help=t(N_("Do not ask.")))
def rm(name: str, root: Path, yes: bool) -> None:
    """Ask, then delete."""
    run = shelf.find(root, name)
    if not yes:
        if not sys.stdin.isatty():
            raise BadValue(
                N_("deleting {run} needs a yes"),
                remedy=N_("say so with --yes"),
                where=str(run.path),
                run=run.path.name,
            )
        click.confirm(
            t(N_("delete {path} and its checkpoints?"), path=inert(str(run.path))), abort=True, err=True
        )
    shelf.remove(run)
    voice.note(N_("{run} is deleted"), run=run.path.name)


def _so_far(state: shelf.Entry, *, as_json: bool) -> None:
    if as_json:
        voice.envelope("runs-show", _data(state))
        return
    click.echo(
        t(
            N_("{run}: {state}, step {steps}; last checkpoint: {saved}"),
            run=inert(state.name),
            state=t(show_run.STATES[state.state]),
            steps=_steps(state),
            saved="-" if state.saved_step is None else state.saved_step,
        )
    )


def _steps(state: shelf.Entry) -> str:
    return f"{state.step}/{state.steps}" if state.steps else str(state.step)


def _data(state: shelf.Entry) -> dict[str, object]:
    return {**asdict(state), "path": str(state.path)}
