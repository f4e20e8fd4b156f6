"""`python -m trainers`: run a recipe, measure a model, run a recipe dry, or merge an adapter; by hand, under the advisor, or behind torchrun.

Several processes: `python -m trainers run RECIPE --nproc N` on this computer; on several, behind torchrun on each:
`torchrun --nnodes=... --nproc-per-node=... -m trainers run RECIPE --run-dir DIR`.
"""

import os
import signal

if __name__ == "__main__":
    # Before anything else is imported: until the run hears signals, Ctrl-C just ends the process. As an exception
    # it would come up inside whatever is being loaded, and pydantic takes it for a broken pattern.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Before torch is imported, too: its allocator reads this once. Segments that grow leave almost no fragments
    # (--reserved of a dry run shows both), and the estimate counts on it.
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")

import argparse
import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from recipes.errors import Failure
from recipes.exits import Exit
from recipes.read import read
from trainers.errors import MissingPackage
from trainers.run import EXTRA, measure, say, text, train

RUN_DIR: Final = ("--run-dir", "--run")
"""Behind torchrun only the long form: its own parser takes `--run` for a short form of `--run-path`."""


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit code of `recipes.exits`."""
    options = _parser().parse_args(words)
    try:
        if options.verb == "measure":
            return measure(options.probe, options.run)
        if options.verb == "merge":
            return _merge(options.source, options.out)
        if options.verb == "masks":
            return int(import_module("trainers.run.masks").show(options.model, options.rows))
        if options.verb == "dry-run":
            return _dry_run(options)
        return train(
            options.recipe,
            options.run,
            resume=options.resume,
            accept_changes=options.accept_changes,
            nproc=options.nproc,
        )
    except Failure as failure:
        say(failure)
        return failure.exit_code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _merge(source: Path, out: Path) -> int:
    """Merge, and say how far the result is from base and adapter apart."""
    try:
        found = import_module("trainers.run.merge").merge(source, out)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        raise MissingPackage(str(error.name)) from None
    sys.stdout.write(
        f"{out}: largest difference of a logit {found.difference:.2g} (of {found.largest:.3g})\n"
    )
    return Exit.OK


def _dry_run(options: argparse.Namespace) -> int:
    """Only from here on is torch imported, and without its compiler: a dry run compiles nothing.

    Nor does it collect garbage: that costs half a second of imports, and storages are freed by their last reference.
    """
    plan = read(text(options.recipe), where=str(options.recipe))
    if "torch" not in sys.modules:  # else it is somebody else's process, who may want the compiler
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    gc.disable()
    try:
        command = import_module("trainers.dryrun.command")
        code: int = command.run(
            plan,
            options.recipe.parent,
            options.config,
            label_share=options.label_share,
            reserved=options.reserved,
            as_json=options.json,
        )
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        raise MissingPackage(str(error.name)) from None
    finally:
        gc.enable()
    return code


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("it is 1 or more")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainers", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="train as a recipe says, to its report")
    run.add_argument("recipe", type=Path, metavar="RECIPE")
    run.add_argument(
        *RUN_DIR, dest="run", type=Path, metavar="DIR", help="the run directory (default: runs/<name>)"
    )
    run.add_argument(
        "--nproc", type=_count, metavar="N", help="so many processes on this computer share the batch"
    )
    run.add_argument("--resume", action="store_true", help="go on where an earlier attempt ended")
    run.add_argument(
        "--accept-changes", action="store_true", help="go on although recipe, data, base or versions changed"
    )
    masks = verbs.add_parser("masks", help="show what of rows is trained, token by token")
    masks.add_argument("model", type=Path, metavar="MODEL")
    masks.add_argument("rows", type=Path, metavar="ROWS")
    whole = verbs.add_parser("merge", help="merge the adapter of a run into its base: one whole model")
    whole.add_argument("source", type=Path, metavar="RUN_OR_ADAPTER")
    whole.add_argument("--out", type=Path, metavar="DIR", required=True, help="where to; new or empty")
    probe = verbs.add_parser("measure", help="judge a model without training it")
    probe.add_argument("probe", type=Path, metavar="PROBE")
    probe.add_argument(
        *RUN_DIR, dest="run", type=Path, metavar="DIR", required=True, help="the run directory"
    )
    dry = verbs.add_parser("dry-run", help="find a recipe's peak memory without weights and without a GPU")
    dry.add_argument("recipe", type=Path, metavar="RECIPE")
    dry.add_argument(
        "--config", type=Path, metavar="FILE", help="the model's config.json (default: in its directory)"
    )
    dry.add_argument(
        "--label-share", type=_share, default=1.0, metavar="SHARE", help="the share of tokens that is trained"
    )
    dry.add_argument(
        "--reserved", action="store_true", help="also what the allocator holds; runs the whole depth"
    )
    dry.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError("it is above 0 and at most 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
