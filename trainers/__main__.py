"""`python -m trainers`: run a recipe, or measure a model; by hand, under the advisor, or behind torchrun.

Several processes: `torchrun --nproc-per-node=N -m trainers run RECIPE --run-dir DIR`.
"""

import signal

if __name__ == "__main__":
    # Before anything else is imported: until the run hears signals, Ctrl-C just ends the process. As an exception
    # it would come up inside whatever is being loaded, and pydantic takes it for a broken pattern.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from recipes.errors import Failure
from recipes.exits import Exit
from trainers.run import measure, say, train

RUN_DIR: Final = ("--run-dir", "--run")
"""Behind torchrun only the long form: its own parser takes `--run` for a short form of `--run-path`."""


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code of `recipes.exits`."""
    options = _parser().parse_args(words)
    try:
        if options.verb == "measure":
            return measure(options.probe, options.run)
        return train(
            options.recipe, options.run, resume=options.resume, accept_changes=options.accept_changes
        )
    except Failure as failure:
        say(failure)
        return failure.exit_code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainers", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="train as a recipe says, to its report")
    run.add_argument("recipe", type=Path, metavar="RECIPE")
    run.add_argument(
        *RUN_DIR, dest="run", type=Path, metavar="DIR", help="the run directory (default: runs/<name>)"
    )
    run.add_argument("--resume", action="store_true", help="go on where an earlier attempt ended")
    run.add_argument(
        "--accept-changes", action="store_true", help="go on although recipe, data, base or versions changed"
    )
    probe = verbs.add_parser("measure", help="judge a model without training it")
    probe.add_argument("probe", type=Path, metavar="PROBE")
    probe.add_argument(
        *RUN_DIR, dest="run", type=Path, metavar="DIR", required=True, help="the run directory"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
