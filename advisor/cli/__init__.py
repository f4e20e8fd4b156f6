"""The command line: a lazy group whose help imports no command, and the one place where errors become exit codes."""

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from advisor.cli import clicks, voice
from advisor.text import t, use
from recipes.errors import Failure
from recipes.exits import Exit
from recipes.words import N_

COMMANDS: Final = {
    "recommend": N_("Say what to do: prompt, retrieve or fine-tune, and why."),
    "ask": N_("Ask the questions that can change the advice, in plain text."),
    "graph": N_("Draw the decision tree."),
    "estimate": N_("Show, term by term, the memory and time that a recipe or a model needs."),
    "plan": N_("List the plans that fit your hardware, best first; show or write one of them."),
    "recipe": N_("Write a recipe.toml, its rows and, if asked, a script that runs without this tool."),
    "train": N_("Start a recipe, or resume it, and follow it to its report."),
    "runs": N_("List past runs, show a report, attach, pause, stop or remove."),
    "measure": N_("Measure a base model, a prompt and few-shot examples on held-out rows."),
    "data": N_("Check a dataset, preview what is trained, or convert it to rows."),
    "demo": N_("Walk the whole line on the embedded example: measure, advise, train, report."),
    "models": N_("List the models of the catalogue."),
    "gpus": N_("List the GPUs of the catalogue and the one in this computer."),
    "doctor": N_("Say what is installed, what is missing and where files go."),
}

INTRODUCTION: Final = (
    N_("From a problem to a trained, measured model: advice, plan, estimate, recipe, run, report."),
    N_("Without a command, on a terminal, the guided interface opens."),
)

NO_SCREEN: Final = frozenset({"dumb", "unknown"})
"""Terminals by name that can only print one line after the other: as good as none for an interface."""

NOT_OURS: Final = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG),
        *(errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR),
    }
)
"""What the operating system says of a disk or of a path that a person named: no fault of this program."""


class Spoken(click.Option):
    """An option whose help is translated when it is shown: the language may be chosen on the same line."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option and its help in the reader's language."""
        record = super().get_help_record(ctx)
        return (record[0], t(self.help)) if record and self.help else record


class Lazy(click.Group):
    """A group that knows its commands by name; help never imports one of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the line, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of the command that was called."""
        if cmd_name in COMMANDS:
            command: click.Command = import_module(f"advisor.cli.{cmd_name}").command
            return command
        if ctx.resilient_parsing:  # the shell is only completing a word
            return None
        raise click.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say what the program is, in the language that was chosen on the same line."""
        formatter.write_paragraph()
        with formatter.indentation():
            for paragraph in INTRODUCTION:
                formatter.write_text(t(paragraph))
                formatter.write_paragraph()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table from the names alone."""
        with formatter.section(t(N_("Commands"))):
            formatter.write_dl([(name, t(text)) for name, text in COMMANDS.items()])


def _speak(_: click.Context, __: click.Parameter, code: str | None) -> None:
    if code:
        use(code)
        clicks.speak()


@click.group(cls=Lazy, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(voice.VERSION, prog_name="advisor")
@click.option(
    "--lang",
    type=click.Choice(["en", "zh"]),
    callback=_speak,
    is_eager=True,
    expose_value=False,
    cls=Spoken,
    help=N_("Language of the words: en or zh (default: from the environment)."),
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run a command, or open the guided interface where there is none and a person is watching."""
    if ctx.invoked_subcommand is not None:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or os.environ.get("TERM") in NO_SCREEN:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(Exit.USAGE)
    ctx.exit(import_module("advisor.tui.app").run())


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code; never with a traceback."""
    words = list(sys.argv[1:] if args is None else args)
    voice.prepare()
    clicks.speak()
    try:
        code = _run(words, as_json="--json" in words)
        if sys.stdout is not None:  # None where it was closed by whoever called
            sys.stdout.flush()
    except OSError as error:
        code = _unheard(error)
    sys.exit(code)


def _run(words: Sequence[str], *, as_json: bool) -> int:
    try:
        result = cli.main(args=list(words), prog_name="advisor", standalone_mode=False)
    except Failure as failure:
        voice.fail(failure, as_json=as_json)
        return failure.exit_code
    except click.ClickException as problem:
        voice.fail_usage(problem, as_json=as_json)
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except SystemExit:  # click's way where the reader left, as `head` does: silence is the right answer
        return Exit.OK
    except OSError as error:
        return _no_room(error, as_json=as_json)
    except Exception as bug:  # noqa: BLE001  (the last resort: a crash file instead of a traceback)
        voice.crash(bug, as_json=as_json)
        return Exit.BUG
    return int(result) if isinstance(result, int) else Exit.OK


def _no_room(error: OSError, *, as_json: bool) -> int:
    """Tell a full disk or an impossible path from a fault of ours."""
    if error.errno in NOT_OURS:
        voice.fail(_unwritten(error) if error.filename is None else _unusable(error), as_json=as_json)
        return Exit.ENVIRONMENT
    voice.crash(error, as_json=as_json)
    return Exit.BUG


def _unheard(error: OSError) -> int:
    """Standard output itself cannot be written: silence for a reader who left, else never told as done."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest when it ends
    if isinstance(error, BrokenPipeError):
        return Exit.OK
    voice.fail(_unwritten(error), as_json=False)
    return Exit.ENVIRONMENT


def _unusable(error: OSError) -> Failure:
    from advisor.errors import NoRoom

    return NoRoom(
        N_("this path cannot be used: {reason}"),
        remedy=N_("check its name and its permissions, or choose another one"),
        where=os.fsdecode(error.filename),
        reason=error.strerror or str(error),
    )


def _unwritten(error: OSError) -> Failure:
    from advisor.errors import NoRoom

    return NoRoom(
        N_("the output cannot be written: {reason}"),
        remedy=N_("free some space, or send the output elsewhere"),
        reason=error.strerror or str(error),
    )
