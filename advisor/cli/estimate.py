"""`advisor estimate`: the memory and time of a recipe, or of a model with each method, by part."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import click

from advisor.catalog.gpus import Hardware, hardware
from advisor.catalog.models import ModelShape, model
from advisor.cli import given, voice
from advisor.data.store import read_rows
from advisor.data.tokens import stats
from advisor.estimate.cheaper import Change, cheaper
from advisor.estimate.memory import LOWERED_BY, estimate, fit
from advisor.estimate.profiles import NATIVE, NATIVE_CPU, profile
from advisor.estimate.setup import Setup, Unsupported, setup
from advisor.estimate.shapes import parameters
from advisor.estimate.terms import Interval, Moment
from advisor.estimate.time import Timing, Untimed, timing
from advisor.plan.fits import METHODS, configuration
from advisor.run.dry import Dry, dry_run
from advisor.show import dry as show_dry
from advisor.show import estimate as show
from advisor.show import timing as show_timing
from advisor.show.batch import answer
from advisor.text import N_, inert, t
from advisor.units import count
from recipes.exits import Exit
from recipes.plan import (
    Adaptation,
    Bottleneck,
    Ia3,
    Lora,
    Plan,
    Prefix,
    PromptTuning,
    PTuning,
)
from recipes.plan import method as method_of

ADDED: Final[Mapping[str, Adaptation]] = MappingProxyType(
    {
        "dora": Lora(dora=True),
        "lora_8bit": Lora(base="int8"),
        "qdora": Lora(base="nf4", dora=True),
        "bottleneck": Bottleneck(),
        "prefix": Prefix(),
        "p_tuning": PTuning(),
        "prompt_tuning": PromptTuning(),
        "ia3": Ia3(),
    }
)
"""Further methods in their usual form, beside those that a plan chooses among."""
MILLION: Final = 1e6
"""Time is told for a million tokens where nobody knows the data."""


@click.command(
    help=t(N_("Show, term by term, the memory and time that RECIPE, or a model with each method, needs."))
)
@click.argument("recipe", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", "model_name", help=t(N_("A model of the catalogue, or a directory.")))
@click.option(
    "--method",
    type=click.Choice(["all", *METHODS, *ADDED]),
    default="all",
    help=t(N_("What moves (with --model).")),
)
@click.option(
    "--seq", type=click.IntRange(1), default=2048, show_default=True, help=t(N_("Tokens of one row."))
)
@click.option(
    "--micro-batch", type=click.IntRange(1), default=1, show_default=True, help=t(N_("Rows at once."))
)
@click.option(
    "--checkpointing/--no-checkpointing",
    default=True,
    show_default=True,
    help=t(N_("Recompute activations (with --model).")),
)
@click.option("--vram", type=float, help=t(N_("Memory of the card in GB.")))
@click.option("--gpu", help=t(N_("A card of the catalogue.")))
@click.option("--require-fit", is_flag=True, help=t(N_("End with exit code 4 if nothing shown fits.")))
@click.option(
    "--spec",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=t(
        N_("A JSON file with one configuration or a list of them; answers in the same order (with --json).")
    ),
)
@click.option(
    "--dry-run",
    "dry",
    is_flag=True,
    help=t(
        N_("Run the trainer's own steps without weights, and show them beside the formula (with RECIPE).")
    ),
)
@click.option(
    "--reserved", is_flag=True, help=t(N_("With --dry-run: also what the allocator would hold (slower)."))
)
@click.option("--json", "as_json", is_flag=True, help=t(N_("One JSON object on stdout.")))
@click.pass_context
def command(
    ctx: click.Context,
    recipe: Path | None,
    model_name: str | None,
    method: str,
    seq: int,
    micro_batch: int,
    checkpointing: bool,
    vram: float | None,
    gpu: str | None,
    require_fit: bool,
    spec: Path | None,
    dry: bool,
    reserved: bool,
    as_json: bool,
) -> None:
    """Show, term by term, the memory and time that RECIPE, or a model with each method, needs."""
    if spec is not None:
        _batch(ctx, spec, as_json=as_json, alone=recipe is None and model_name is None)
        return
    if (recipe is None) == (model_name is None):
        raise click.UsageError(t(N_("give either a recipe or --model")), ctx)
    if (dry and recipe is None) or (reserved and not dry):
        raise click.UsageError(t(N_("--dry-run goes with a recipe, and --reserved with --dry-run")), ctx)
    if dry and recipe is not None:
        _rehearsed(recipe, reserved=reserved, as_json=as_json)
        return
    machine = hardware(vram, gpu)
    if machine.note:
        voice.note(machine.note, gpu=machine.name)
    if recipe is not None:
        plan = given.plan(recipe)
        shape = _model_of(plan, recipe.parent)
        setups = [(method_of(plan.adaptation), setup(plan, shape, None, device=machine.kind))]
        lines = [_run(plan, recipe.parent, setups[0][1], machine)]
    else:
        shape = model(model_name or "")
        used = profile(NATIVE_CPU if machine.kind == "cpu" else NATIVE)
        names = (*METHODS, *ADDED) if method == "all" else (method,)
        base = partial(
            configuration,
            shape,
            seq_tokens=seq,
            micro_batch=micro_batch,
            used=used,
            checkpointing=checkpointing,
        )
        setups = [
            (name, replace(base("lora"), adaptation=ADDED[name]) if name in ADDED else base(name))
            for name in names
        ]
        lines = [_line(name, found, machine) for name, found in setups]
    if as_json:
        voice.envelope(
            "estimate", [_data(line, found, machine) for line, (_, found) in zip(lines, setups, strict=True)]
        )
    else:
        click.echo(show.text(_title(setups[0][1]), lines, machine))
    if require_fit and all(line.fit != "fits" for line in lines):
        ctx.exit(Exit.ENVIRONMENT)


def _batch(ctx: click.Context, spec: Path, *, as_json: bool, alone: bool) -> None:
    if not (as_json and alone):
        raise click.UsageError(t(N_("--spec goes with --json, and with neither a recipe nor --model")), ctx)
    found = given.records(spec)
    voice.envelope("estimate", [answer(record) for record in found])


def _rehearsed(path: Path, *, reserved: bool, as_json: bool) -> None:
    """The closed form, where there is one, beside a dry run."""
    plan = given.plan(path)
    shape = _model_of(plan, path.parent)
    found = dry_run(path, None if shape.checked is None else shape, reserved=reserved)
    try:
        closed = dict(estimate(setup(plan, shape, None)).candidates)
        refused = None
    except Unsupported as reason:
        closed, refused = {}, reason
    if as_json:
        voice.envelope("estimate", _dry_data(found, closed, refused))
        return
    if refused is not None:
        voice.note(refused.problem, **refused.values)
    click.echo(show_dry.text(closed, found.moments, found.reserved))


def _dry_data(found: Dry, closed: Mapping[str, int], refused: Unsupported | None) -> dict[str, object]:
    return {
        "status": "ok",
        "dry_run": {
            "peak_allocated_bytes": found.allocated,
            "winner": found.winner,
            "moments": dict(found.moments),
            "reserved_bytes": found.reserved
            and dict(zip(("expandable", "segments"), found.reserved, strict=True)),
            "layers": found.layers,
            "depths": list(found.depths),
            "cpu_seconds": found.cpu_seconds,
            "versions": dict(found.versions),
        },
        "closed_form": None
        if refused
        else {"peak_allocated_bytes": max(closed.values()), "moments": dict(closed)},
        "reason": str(refused) if refused else None,
        "disagree": bool(closed) and show_dry.apart(max(closed.values()), found.allocated),
    }


def _model_of(plan: Plan, beside: Path) -> ModelShape:
    """The recipe's model: a directory beside it or from here, else a name of the catalogue."""
    here = beside / plan.model.id
    return model(str(here)) if here.is_dir() else model(plan.model.id)


def _run(plan: Plan, beside: Path, found: Setup, machine: Hardware) -> show.Line:
    """A recipe: with the time of the whole run where its rows are there to be counted."""
    schedule, line = plan.schedule, _line(method_of(plan.adaptation), found, machine)
    rows = beside / plan.data.train
    counted = stats(read_rows(rows), _directory(plan, beside)) if rows.is_file() else None
    if counted is None or not counted.tokens:
        return replace(line, timing=_timing(found, MILLION, machine, plan))
    done = setup(plan, found.shape, counted, device=machine.kind)
    return replace(line, timing=_timing(done, counted.tokens * schedule.epochs, machine, plan), whole=True)


def _timing(found: Setup, tokens: float, machine: Hardware, plan: Plan) -> Timing | Untimed:
    return timing(found, machine, tokens, accumulation=plan.schedule.accumulation, nodes=plan.layout.nodes)


def _directory(plan: Plan, beside: Path) -> Path | None:
    """Where the model's tokenizer is, if the model is on this computer."""
    return next((path for path in (beside / plan.model.id, Path(plan.model.id)) if path.is_dir()), None)


def _line(name: str, found: Setup, machine: Hardware) -> show.Line:
    estimated = estimate(found)
    return show.Line(
        name,
        estimated,
        fit(estimated, machine.usable_bytes),
        timing(found, machine, MILLION),
        changes=cheaper(found, machine.usable_bytes),
    )


def _title(found: Setup) -> str:
    return t(
        N_("{model}: {size} parameters, {dtype}, {tokens} tokens at once, {again}"),
        model=inert(found.shape.name),
        size=count(parameters(found.shape)),
        dtype=found.dtype,
        tokens=f"{found.micro_batch_tokens:,}",
        again=t(N_("activations recomputed")) if found.checkpointing else t(N_("activations kept")),
    )


def _data(line: show.Line, found: Setup, machine: Hardware) -> dict[str, object]:
    estimated = line.estimate
    return {
        "status": "ok",
        "model": found.shape.name,
        "method": line.method,
        "parameters": parameters(found.shape),
        "trained_parameters": found.trained,
        "peak_allocated_bytes": estimated.allocated,
        "peak_reserved_bytes": _interval(estimated.reserved),
        "peak_process_bytes": _interval(estimated.process),
        "tolerance": estimated.tolerance,
        "winner": estimated.winner.name,
        "lowered_by": LOWERED_BY[estimated.winner.name],
        "candidates": dict(estimated.candidates),
        "moments": [_moment(moment) for moment in estimated.moments],
        "profile": estimated.profile,
        "usable_bytes": machine.usable_bytes,
        "hardware": machine.name,
        "verdict": line.fit,
        "fits": line.fit == "fits",
        "time": {"of": "run" if line.whole else "million_tokens", **show_timing.data(line.timing)},
        "warnings": list(estimated.warnings),
        "would_fit": [_change(change) for change in line.changes],
    }


def _change(change: Change) -> dict[str, object]:
    return {
        "changes": [t(text) for text in change.texts],
        "peak_allocated_bytes": change.estimate.allocated,
        "peak_process_bytes": _interval(change.estimate.process),
    }


def _moment(moment: Moment) -> dict[str, object]:
    terms = [
        {"name": term.name, "bytes": term.bytes, "arithmetic": term.arithmetic, "source": term.source}
        for term in moment.terms
    ]
    return {"name": moment.name, "bytes": moment.bytes, "terms": terms}


def _interval(found: Interval) -> dict[str, int]:
    return {"low": round(found.low), "high": round(found.high)}
