"""`python -m trainers dry-run`: what a recipe would need, as a table or as JSON."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from recipes.exits import Exit
from recipes.plan import Plan
from recipes.words import N_
from trainers.dryrun import DryRun, dry_run
from trainers.errors import MissingWeights, WrongLaunch
from trainers.run.fingerprints import versions

SCHEMA: Final = "trainers/dry-run/1"
GIB: Final = 2**30


def run(
    plan: Plan, home: Path, config: Path | None, *, label_share: float, reserved: bool, as_json: bool
) -> int:
    """Run a recipe dry and write what came out to standard output; the exit code.

    Args:
        plan: The recipe.
        home: Its directory.
        config: The model's `config.json`, where the model itself is not on this computer.
        label_share: Which share of the tokens is trained.
        reserved: Say also what the allocator would hold; that takes the whole depth.
        as_json: One JSON object instead of a table.

    Raises:
        MissingWeights: There is no configuration, or transformers cannot read it.
        WrongLaunch: The recipe wants several processes.
        RecipeError: The recipe names what the model does not have.
    """
    if plan.layout.processes > 1:
        raise WrongLaunch(
            N_("a dry run knows one process, and the recipe wants {wanted}"),
            remedy=N_(
                "set layout.processes = 1 to see one of them without sharding; `advisor estimate` knows more"
            ),
            wanted=plan.layout.processes,
        )
    found = dry_run(plan, _keys(_config(plan, home, config)), label_share=label_share, reserved=reserved)
    sys.stdout.write(json.dumps(_data(found)) + "\n" if as_json else _table(found))
    return Exit.OK


def _config(plan: Plan, home: Path, given: Path | None) -> Path:
    """Where the model's configuration is: as given, or in the model's directory beside the recipe or from here."""
    here = [given] if given else [home / plan.model.id / "config.json", Path(plan.model.id) / "config.json"]
    for path in here:
        if path.is_file():
            return path
    raise MissingWeights(
        N_("there is no config.json"),
        remedy=N_("give the model's with --config FILE; a dry run needs nothing else of a model"),
        where=str(here[0]),
    )


def _keys(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "model_type" not in found:
        raise MissingWeights(
            N_("it is not the configuration of a model (a JSON object with `model_type`)"),
            remedy=N_("copy config.json anew from where the model came from"),
            where=str(path),
        )
    return found


def _data(found: DryRun) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "peak_allocated_bytes": found.allocated,
        "winner": found.winner,
        "moments": dict(found.moments),
        "reserved": None if found.reserved is None else asdict(found.reserved),
        "trained_parameters": found.trained,
        "layers": found.layers,
        "depths": list(found.depths),
        "cpu_seconds": round(found.seconds, 3),
        "versions": versions(),
        "notes": list(found.notes),
    }


def _table(found: DryRun) -> str:
    """The moments, the highest one marked."""
    lines = [
        f"{'*' if name == found.winner else ' '} {name:<12}{size / GIB:>10.3f} GiB"
        for name, size in found.moments.items()
    ]
    if found.reserved is not None:
        lines.append(
            f"  {'reserved':<12}{found.reserved.expandable / GIB:>10.3f} GiB with expandable segments"
        )
        lines.append(f"  {'':<12}{found.reserved.segments / GIB:>10.3f} GiB without")
    depths = " and ".join(str(depth) for depth in found.depths)
    lines.append(f"  {found.layers} blocks from runs of {depths}, {found.seconds:.1f} s of the processor")
    lines += [f"  note: {note}" for note in found.notes]
    return "\n".join(lines) + "\n"
