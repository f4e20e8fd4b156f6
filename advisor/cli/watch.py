"""Watch a run to its end: progress on stderr, the report or the events on stdout, Ctrl-C as a wish to stop."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import click

from advisor.cli import voice
from advisor.run import shelf
from advisor.run.directory import RECIPE, Run, alive
from advisor.run.follow import Outcome, follow, outcome
from advisor.run.retry import TRIES, Retry, again
from advisor.show import report as show_report
from advisor.show import run as show
from advisor.show.failure import problem
from advisor.text import N_, inert, t
from recipes.errors import Failure
from recipes.exits import Exit
from recipes.report import Event

SHARE = 0.1
"""Without a terminal: a line for each tenth ..."""
SECONDS = 60.0
"""... and for each minute."""
REDRAW_SECONDS = 0.1
"""On a terminal: at most ten times a second."""
PATIENCE = 4
"""So many times Ctrl-C, and nobody waits for a step any more."""
LEAVING_SECONDS = 30.0
"""The last event comes a moment before the process has gone."""


def to_the_end(run: Run, *, as_json: bool) -> int:
    """Follow a run, tell its end, and return its exit code; Ctrl-C stops the run."""
    ended = _seen(run, as_json=as_json)
    for _ in range(TRIES):
        further = _again(run, ended)
        if further is None:
            break
        run = further.run
        ended = _seen(run, as_json=as_json)
    if not as_json:
        tell(run, ended)
    return ended.exit


def _again(run: Run, ended: Outcome) -> Retry | None:
    """Go on with less, if memory ran out; whatever stands in the way is said, and the run has ended as it did."""
    try:
        further = again(run, ended, lambda why: t(why.text, **why.values))
    except Failure as failure:
        _say(t(N_("it cannot go on with less: {reason}"), reason=problem(failure)), over=False)
        return None
    if further is not None:
        _say(show.retried(further.changes, t(further.reason.text, **further.reason.values)), over=False)
    return further


def _seen(run: Run, *, as_json: bool) -> Outcome:
    """One attempt, shown; Ctrl-C stops it."""
    if not as_json:
        return followed(run)
    with _passing_on(run):
        for event in follow(run):
            click.echo(raw(event))
        return _settled(run)


def followed(run: Run) -> Outcome:
    """Show the progress of a run on stderr until it ends; Ctrl-C stops the run."""
    with _passing_on(run):
        _show(follow(run), rewrites=sys.stderr.isatty())
        return _settled(run)


def attached(run: Run, *, as_json: bool) -> int:
    """Follow a run that somebody started; Ctrl-C leaves it running."""
    try:
        if as_json:
            for event in follow(run):
                click.echo(raw(event))
        else:
            _show(follow(run), rewrites=sys.stderr.isatty())
    except KeyboardInterrupt:
        click.echo(err=True)
        voice.note(N_("the run goes on; watch it again with: advisor runs attach {run}"), run=run.path.name)
        return Exit.OK
    ended = outcome(run)
    if not as_json:
        tell(run, ended)
    return ended.exit


def raw(event: Event) -> str:
    """The event as it stands in the file, in ASCII: nothing in it can act on a terminal."""
    return json.dumps(event.model_dump(mode="json"), ensure_ascii=True, allow_nan=False).replace(
        "\x7f", "\\u007f"
    )


def tell(run: Run, ended: Outcome) -> None:
    """The report on stdout; on stderr, what went wrong and what is safe."""
    if ended.report is not None:
        click.echo(show_report.text(shelf.report(run)))
        click.echo()
        click.echo(t(N_("report {path}"), path=inert(str(ended.report))))
    tell_ending(run, ended)


def tell_ending(run: Run, ended: Outcome) -> None:
    """On stderr: how a run ended that did not come to its end, what of it is safe, what to do."""
    if ended.missing_lines:
        voice.note(N_("{count} event(s) are missing in the file"), count=ended.missing_lines)
    lines = show.ending(
        ended.state,
        where=str(run.path),
        resumable=ended.saved_step is not None or (run.path / RECIPE).is_file(),  # a measurement has neither
        step=ended.step,
        saved_step=ended.saved_step,
        code=ended.code,
        message=show.filled(ended.problem, ended.values) or ended.message,
        places=_places(ended),
        remedy=show.filled(ended.remedy, ended.values) or "",
    )
    for line in lines:
        click.echo(line, err=True)


def _places(ended: Outcome) -> list[str]:
    """What is wrong where, in the reader's language as far as the sentences are known."""
    if len(ended.problems) != len(ended.places):  # places of data have none
        return list(ended.places)
    return [show.filled(*known) or place for known, place in zip(ended.problems, ended.places, strict=True)]


def _show(seen: Iterable[Event], *, rewrites: bool) -> None:
    """One line that is rewritten on a terminal; elsewhere one line for each tenth of a phase, and each minute."""
    progress, place, when = show.Progress(), ("", 0), float("-inf")
    for event in seen:
        progress = show.advance(progress, event)
        if said := show.news(event):
            _say(said, over=rewrites)
        now = time.monotonic()
        here = (f"{progress.phase} {progress.arm}", int(progress.share / SHARE))
        if now - when >= REDRAW_SECONDS if rewrites else here != place or now - when >= SECONDS:
            _say(show.line(progress), over=rewrites, stay=not rewrites)
            place, when = here, now
    if rewrites:
        _say("", over=True, stay=False)


def _say(text: str, *, over: bool, stay: bool = True) -> None:
    """A line on stderr; `over` the progress line that stands there, and to `stay` or to be rewritten."""
    click.echo(f"\r\x1b[K{text}" if over else text, nl=stay, err=True)


def _settled(run: Run) -> Outcome:
    if run.process is not None:
        with suppress(subprocess.TimeoutExpired):
            run.process.wait(LEAVING_SECONDS)
    return outcome(run)


@contextmanager
def _passing_on(run: Run) -> Iterator[None]:
    """Pass Ctrl-C on to the trainer, which is not of this terminal's group: it stops after its step, and saves.

    A second one within a few seconds ends it at once, by the trainer's own rule; a fourth is not negotiable.
    """
    presses: list[int] = []

    def pressed(number: int, _: FrameType | None) -> None:
        presses.append(number)
        if len(presses) == 1:
            _say(t(N_("\nstopping after this step, and saving; Ctrl-C twice to end it at once")), over=False)
        _signal(run, signal.SIGINT if len(presses) < PATIENCE else signal.SIGKILL)

    before = signal.signal(signal.SIGINT, pressed)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _signal(run: Run, which: int) -> None:
    """To the process that we started and that still lives, and to no other."""
    if run.pid is not None and alive(run):
        with suppress(ProcessLookupError):
            os.kill(run.pid, which)
