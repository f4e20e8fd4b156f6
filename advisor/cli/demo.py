"""`advisor demo`: walk the whole line on the embedded example, with real files and processes."""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from advisor.catalog.gpus import detect
from advisor.catalog.models import local
from advisor.cli import voice, watch
from advisor.data import store
from advisor.data.tokens import stats
from advisor.decide.advice import Advice
from advisor.decide.advise import advise
from advisor.decide.answers import Answers, parse
from advisor.decide.measured import facts
from advisor.errors import NoRoom
from advisor.learn.lantern.base import base_dir
from advisor.learn.lantern.files import HELD_OUT, LENGTH_TOKENS, TRAIN, evaluation, layout, model
from advisor.learn.lantern.tasks import TASKS, Task, task
from advisor.plan.compose import TRAINED_LEAVES, RowFiles, Wanted, propose
from advisor.run import shelf
from advisor.run.directory import Run
from advisor.run.start import needs, start
from advisor.show import demo as say
from advisor.show import report as receipt
from advisor.show.advice import data as advice_data
from advisor.text import N_, t
from recipes.plan import Data, Probe
from recipes.report import Report
from recipes.write import write

ROWS: Final = 100
"""Held-out rows that each arm answers: intervals of at most 20 points (Wilson), and a second or two an arm."""
GLANCES: Final = ("easy", "facts")
"""Tasks that follow the voice walk in one line each."""

Tell = Callable[[Iterable[str]], None]


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the demo writes (and whether that stays), how many held-out rows it judges, and to whom it speaks."""

    directory: Path
    kept: bool
    rows: int
    tell: Tell


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a task before anything is trained."""

    task: Task
    report: Report
    facts: Mapping[str, object]
    answers: Answers
    advice: Advice


@click.command(
    help=t(N_("Walk the whole line on the embedded example: measure, advise, plan, train, report."))
)
@click.option(
    "--task",
    "name",
    type=click.Choice(tuple(TASKS)),
    default="voice",
    show_default=True,
    help=t(N_("Whose problem.")),
)
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help=t(N_("Leave rows, probe, recipe, run and report in this new or empty directory.")),
)
@click.option(
    "--rows",
    type=click.IntRange(20, 100),
    default=ROWS,
    show_default=True,
    help=t(N_("Held-out rows that each arm answers.")),
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help=t(N_("Print one JSON object on stdout; the story goes to stderr.")),
)
def command(name: str, keep: Path | None, rows: int, as_json: bool) -> None:
    """Tell the story of one task; after the voice, look at two others."""

    def tell(lines: Iterable[str]) -> None:
        for text in lines:
            click.echo(text, err=as_json)

    needs()  # before a word is told or a directory is made
    with _workplace(keep) as directory:
        setting = Setting(directory, keep is not None, rows, tell)
        measured, report = _walk(task(name), setting)
        others = [_glance(task(other), setting) for other in _others(name, tell)]
        if keep:
            voice.note(N_("everything is in {path}"), path=str(keep))
    if as_json:
        voice.envelope(
            "demo",
            {
                **_told(measured),
                "report": report and report.model_dump(mode="json"),
                "others": [_told(o) for o in others],
            },
        )


def _walk(task: Task, setting: Setting) -> tuple[Measured, Report | None]:
    """Walk the line as far as the advice goes."""
    tell = setting.tell
    tell(say.opening(task))
    tell(say.measuring(task, setting.rows))
    found = _measure(task, setting)
    tell(["", receipt.text(found.report)])
    tell(say.known(_without(found.facts, task.declared), task.declared))
    tell(say.advised(found.advice))
    if found.advice.primary not in TRAINED_LEAVES:
        tell(say.not_trained(found.advice, found.report))
        return found, None
    recipe = _plan(found, setting)
    tell(say.training())
    report = _finished(start(recipe, run=recipe.parent / "run"), setting)
    tell(say.reporting())
    tell(["", receipt.text(report), "", *say.side_by_side(report)])
    return found, report


def _glance(task: Task, setting: Setting) -> Measured:
    """Measure and advise, in one line."""
    found = _measure(task, setting)
    setting.tell(say.glance(task, found.report, found.advice))
    return found


def _others(name: str, tell: Tell) -> tuple[str, ...]:
    if name != "voice":
        return ()
    tell([say.glance_heading()])
    return GLANCES


def _measure(task: Task, setting: Setting) -> Measured:
    """Ask the untuned model, and take the numbers through the graph."""
    place = setting.directory / task.name
    place.mkdir()
    judged = evaluation(task, setting.rows)
    probe = Probe(model=model(), data=_lay_out(task, place), evaluation=judged, layout=layout())
    order = place / "probe.json"
    order.write_text(probe.model_dump_json(exclude_none=True, indent=1) + "\n", encoding="utf-8")
    report = _finished(start(order, run=place / "measured", measure=True), setting)
    found = {**facts(report), **task.declared, "n_labelled": len(task.train)}
    (place / "facts.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    answers = parse(found, "report")
    return Measured(task, report, found, answers, advise(answers))


def _without(facts: Mapping[str, object], declared: Mapping[str, object]) -> Mapping[str, object]:
    return {name: value for name, value in facts.items() if name not in declared}


def _told(found: Measured) -> dict[str, object]:
    """What was measured and advised, ready for JSON."""
    return {
        "task": found.task.name,
        "measured": found.report.model_dump(mode="json"),
        "facts": dict(found.facts),
        "advice": advice_data(found.advice, found.answers),
    }


def _lay_out(task: Task, directory: Path) -> Data:
    """Write both sides of the split."""
    return Data(
        train=TRAIN,
        train_sha256=store.write(directory / TRAIN, task.train),
        held_out=HELD_OUT,
        held_out_sha256=store.write(directory / HELD_OUT, task.held_out),
        length_tokens=LENGTH_TOKENS,
    )


def _plan(found: Measured, setting: Setting) -> Path:
    """Fill a plan for this computer and write it down as a recipe."""
    task, place, base, hardware = found.task, setting.directory / found.task.name, base_dir(), detect()
    data = _lay_out(task, place)
    proposal = propose(
        Wanted(
            leaf=found.advice.primary,
            name=f"lantern-{task.name}",
            model_id=str(base),
            shape=local(base),
            data=RowFiles(data.train, data.train_sha256, data.held_out, data.held_out_sha256),
            stats=stats(task.train, base),
            evaluation=evaluation(task, setting.rows),
            hardware=replace(hardware, forward_tokens_per_second=found.report.forward_tokens_per_second),
        )
    )
    recipe = place / "recipe.toml"
    why = {key: t(reason.text, **reason.values) for key, reason in proposal.why.items()}
    recipe.write_text(write(proposal.plan, why), encoding="utf-8")
    setting.tell(say.planned(proposal, hardware, recipe.name))
    return recipe


def _finished(run: Run, setting: Setting) -> Report:
    """Follow a process to its end and return its report; Ctrl-C ends it.

    Raises:
        click.exceptions.Exit: It ended otherwise; what happened was said on stderr.
    """
    ended = watch.followed(run)
    if ended.state == "done":
        return shelf.report(run)
    if ended.state == "stopped" and not setting.kept:
        voice.note(N_("the demo was stopped, and nothing of it is left; --keep DIR would leave everything"))
    else:
        watch.tell_ending(run, ended)
    raise click.exceptions.Exit(ended.exit)


@contextmanager
def _workplace(keep: Path | None) -> Iterator[Path]:
    """A directory for everything that the demo writes: one that stays, or one that does not."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="lantern-bay-") as folder:
            yield Path(folder)
        return
    try:
        keep.mkdir(parents=True, exist_ok=True)
        taken = next(keep.iterdir(), None)
    except OSError as error:
        raise NoRoom(
            N_("the directory cannot be written: {reason}"),
            remedy=N_("choose another one with --keep DIR"),
            where=str(keep),
            reason=error.strerror or str(error),
        ) from None
    if taken:
        raise NoRoom(
            N_("the directory is not empty: it holds {name}"),
            remedy=N_("choose a new one with --keep DIR; nothing was changed"),
            where=str(keep),
            name=taken.name,
        )
    yield keep
