"""`advisor train`: start a recipe in a process of its own, or resume it, and follow it to its report."""

import json
from pathlib import Path

import click

from advisor.cli import given, voice, watch
from advisor.errors import BadValue
from advisor.reading import is_directory
from advisor.run import shelf
from advisor.run.directory import RECIPE
from advisor.run.start import command as words
from advisor.run.start import start
from advisor.text import N_, inert, t
from advisor.units import gib, seconds
from recipes.plan import Plan

ROOT = Path("runs")


@click.command(
    help=t(N_("Start RECIPE, or resume it, and follow it to its report. It runs on when you leave."))
)
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--run", "run_dir", type=click.Path(file_okay=False, path_type=Path), help=t(N_("The run directory."))
)
@click.option(
    "--runs",
    "root",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT,
    show_default=True,
    help=t(N_("The folder of runs: without --run, the run is called like the recipe.")),
)
@click.option(
    "--resume",
    is_flag=True,
    help=t(N_("Go on from the last good checkpoint; RECIPE may be a run directory.")),
)
@click.option(
    "--accept-changes", is_flag=True, help=t(N_("Resume although recipe, data or versions changed."))
)
@click.option(
    "--nproc",
    type=click.IntRange(1),
    metavar="N",
    help=t(
        N_(
            "So many processes on this computer share the recipe's batch; it is written into the run's recipe."
        )
    ),
)
@click.option("--detach", is_flag=True, help=t(N_("Start, and do not wait.")))
@click.option("-n", "--dry-run", is_flag=True, help=t(N_("Say what would run and be written; do nothing.")))
@click.option("--json", "as_json", is_flag=True, help=t(N_("Print the events, one JSON object a line.")))
@click.pass_context
def command(
    ctx: click.Context,
    recipe: Path,
    run_dir: Path | None,
    root: Path,
    resume: bool,
    accept_changes: bool,
    nproc: int | None,
    detach: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Start or resume, then watch."""
    path, plan = _recipe(recipe, root, resume=resume)
    run = run_dir or (recipe if path.parent == recipe else root / plan.name)
    if dry_run:
        _dry(plan, path, run, resume=resume, accept_changes=accept_changes, nproc=nproc, as_json=as_json)
        return
    started = start(path, run=run, resume=resume, accept_changes=accept_changes, nproc=nproc)
    if detach:
        _detached(run, started.pid, as_json=as_json)
        return
    ctx.exit(watch.to_the_end(started, as_json=as_json))


def _recipe(path: Path, root: Path, *, resume: bool) -> tuple[Path, Plan]:
    """The recipe and its plan; a run directory stands for the recipe that it was started with."""
    if is_directory(path):
        if not resume:
            raise BadValue(
                N_("this is a directory, not a recipe"),
                remedy=N_("name a recipe.toml; a run directory goes on with --resume"),
                where=str(path),
            )
        path = shelf.find(root, str(path)).path / RECIPE  # a copy; the trainer knows where its paths begin
    return path, given.plan(path)


def _dry(
    plan: Plan,
    path: Path,
    run: Path,
    *,
    resume: bool,
    accept_changes: bool,
    nproc: int | None,
    as_json: bool,
) -> None:
    argv = words(path, run, resume=resume, accept_changes=accept_changes, nproc=nproc)
    predicted = plan.predicted
    if as_json:
        data = {
            "command": argv,
            "run": str(run),
            "predicted": predicted.model_dump(mode="json") if predicted else None,
        }
        voice.envelope("train-dry-run", data)
        return
    click.echo(t(N_("would run    {command}"), command=inert(" ".join(argv))))
    click.echo(t(N_("would write  {run}"), run=inert(str(run))))
    if predicted:
        click.echo(t(N_("memory       {size} at the peak"), size=gib(predicted.peak_bytes)))
        if predicted.seconds_low is not None and predicted.seconds_high is not None:
            low, high = seconds(predicted.seconds_low), seconds(predicted.seconds_high)
            click.echo(t(N_("time         {low} to {high}"), low=low, high=high))


def _detached(run: Path, pid: int | None, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"run": str(run), "pid": pid}))
        return
    click.echo(t(N_("{run} runs as process {pid}"), run=inert(str(run)), pid=pid))
    voice.note(N_("watch it with: advisor runs attach {run}"), run=str(run))
