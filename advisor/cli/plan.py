"""`advisor plan`: every plan that fits, best first, with the trade; one of them in full, or written as a recipe."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from advisor.catalog.gpus import Hardware, hardware
from advisor.catalog.models import model
from advisor.cli import voice
from advisor.cli.facts import Sources, gather
from advisor.cli.recipe import HELD_OUT, RECIPE, TRAIN, Draft, found_base, ours, written
from advisor.data.convert import convert
from advisor.data.facts import facts_of
from advisor.data.split import split
from advisor.data.store import sum_of
from advisor.data.tokens import stats
from advisor.decide.answers import Answers, parse
from advisor.errors import BadValue
from advisor.plan import ranking
from advisor.plan.alternatives import Alternative, Fleet, alternatives, proposal
from advisor.plan.compose import TRAINED_LEAVES, RowFiles, Wanted, run_name
from advisor.plan.fits import WELL_KNOWN
from advisor.plan.judging import evaluation
from advisor.plan.proposal import Proposal, Reason
from advisor.show import plan as show
from advisor.show import timing
from advisor.text import N_, t
from recipes.rows import Row

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(help=t(N_("List the plans that fit your hardware, best first; show or write one of them.")))
@click.option(
    "--model",
    "names",
    multiple=True,
    help=t(N_("A model of the catalogue, or a directory; repeatable (default: one of each usual size).")),
)
@click.option("--data", required=True, type=_FILE, help=t(N_("Examples: JSONL, JSON, CSV, Parquet or text.")))
@click.option(
    "--leaf",
    type=click.Choice(TRAINED_LEAVES),
    help=t(N_("Only this method, by the name that the advice gives it (default: compare all).")),
)
@click.option(
    "--fact", "facts", multiple=True, metavar="NAME=VALUE", help=t(N_("A fact; may be given many times."))
)
@click.option("--facts", "facts_file", type=_FILE, help=t(N_("A file with one JSON object, fact to value.")))
@click.option("--vram", type=float, help=t(N_("Memory of the card in GB.")))
@click.option("--gpu", help=t(N_("A card of the catalogue.")))
@click.option("--gpus", type=click.IntRange(1, 64), help=t(N_("How many cards one computer has.")))
@click.option(
    "--nodes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help=t(N_("How many such computers.")),
)
@click.option(
    "--prefer",
    type=click.Choice(["balanced", "quality", "time", "cost"]),
    default="balanced",
    show_default=True,
    help=t(N_("What the order weighs most.")),
)
@click.option("--pick", type=click.IntRange(1), help=t(N_("Show the plan of this row in full.")))
@click.option("--all", "everything", is_flag=True, help=t(N_("List every plan, not only the best dozen.")))
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help=t(N_("Write the picked plan (else the best) as a recipe into this directory.")),
)
@click.option("--json", "as_json", is_flag=True, help=t(N_("One JSON object on stdout.")))
def command(
    names: Sequence[str],
    data: Path,
    leaf: str | None,
    facts: Sequence[str],
    facts_file: Path | None,
    vram: float | None,
    gpu: str | None,
    gpus: int | None,
    nodes: int,
    prefer: str,
    pick: int | None,
    everything: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """List the plans that fit your hardware, best first; show one in full, or write it as a recipe."""
    if output is not None:
        ours(output)
    machine = hardware(vram, gpu)
    if machine.note:
        voice.note(machine.note, gpu=machine.name)
    converted = convert(data)
    train, held_out = split(converted.rows, None, 0)
    advised = _advised(Sources(facts=facts_file, flags=facts), parse(facts_of(converted.rows), "data"))
    leaves = (leaf,) if leaf else TRAINED_LEAVES
    models = [_wanted(name, data, train, held_out, machine) for name in names or WELL_KNOWN]
    wanted = [replace(one, leaf=chosen) for one in models for chosen in leaves]
    weights = ranking.weights()[prefer]
    fleet = Fleet(gpus or machine.count, nodes)
    found = alternatives(wanted, fleet, weights=weights, advised=None if leaf else advised)
    chosen = _picked(found, pick)
    plan = proposal(chosen)
    if output is not None:
        written(Draft(plan, train, held_out, chosen.wanted.leaf), output, {})
    if as_json:
        ranked = [_row(number, one) for number, one in enumerate(found, 1)]
        voice.envelope(
            "plan", {**_data(plan), "rank": pick or 1, "weights": _weights(weights), "alternatives": ranked}
        )
        return
    blocks = [show.ranking(found, weights, everything=everything)] if pick is None else []
    blocks.append(show.text(plan) if pick is not None else show.best(chosen, plan))
    if output is not None:
        blocks.append(t(N_("written: {path}"), path=str(output / RECIPE)))
    click.echo("\n\n".join(blocks))


def _wanted(
    name: str,
    data: Path,
    train: tuple[Row, ...],
    held_out: tuple[Row, ...],
    machine: Hardware,
) -> Wanted:
    """One model on this data; each method is put in afterwards."""
    directory = Path(name) if Path(name).is_dir() else None
    base = found_base(name) if directory else None
    shape = base.shape if base else model(name)
    return Wanted(
        leaf=TRAINED_LEAVES[0],
        name=run_name(data.stem),
        model_id=base.id if base else shape.name,
        shape=shape,
        data=RowFiles(TRAIN, sum_of(train), HELD_OUT, sum_of(held_out)),
        stats=stats(train, directory),
        evaluation=evaluation(train, held_out, directory),
        hardware=machine,
    )


def _advised(sources: Sources, counted: Answers) -> str | None:
    """The leaf that the facts lead to, if facts were given and it is one that is trained."""
    if not (sources.facts or sources.flags):
        return None
    from advisor.decide.advise import advise

    leaf = advise(gather(sources, counted)).primary
    if leaf not in TRAINED_LEAVES:
        voice.note(
            N_("the facts lead to {leaf}, which is not trained here; the order below is without advice"),
            leaf=leaf,
        )
        return None
    voice.note(N_("the facts lead to {leaf}"), leaf=leaf)
    return leaf


def _picked(found: Sequence[Alternative], pick: int | None) -> Alternative:
    number = pick or 1
    if number > len(found):
        raise BadValue(
            N_("there is no row {pick}: {count} plans fit"),
            remedy=N_("pick one from 1 to {count}"),
            pick=number,
            count=len(found),
        )
    return found[number - 1]


def _row(number: int, one: Alternative) -> dict[str, object]:
    schedule, layout = one.plan.schedule, one.plan.layout
    return {
        "rank": number,
        "leaf": one.wanted.leaf,
        "model": one.wanted.model_id,
        "processes": layout.processes,
        "nodes": layout.nodes,
        "sharding": layout.sharding,
        "micro_batch_tokens": schedule.micro_batch_tokens,
        "accumulation": schedule.accumulation,
        "optimizer": schedule.optimizer,
        "checkpointing": schedule.checkpointing,
        "checkpointing_layers": schedule.checkpointing_layers,
        "length_tokens": one.plan.data.length_tokens,
        "peak_allocated_bytes": one.estimate.allocated,
        "process_high_bytes": round(one.estimate.process.high),
        "quality": round(one.merits.quality, 2),
        "points": [{"points": round(p.points, 2), **_reason(p.why)} for p in one.points],
        "score": round(one.score, 2),
        "on_front": one.on_front,
        **timing.data(one.timing),
    }


def _weights(used: ranking.Weights) -> dict[str, object]:
    return {"name": used.name, "time": used.time, "cost": used.cost}


def _data(found: Proposal) -> dict[str, object]:
    return {
        "plan": found.plan.model_dump(mode="json", exclude_none=True),
        "why": {key: _reason(reason) for key, reason in found.why.items()},
        "concessions": [_reason(reason) for reason in found.concessions],
        "fit": found.fit,
        "peak_allocated_bytes": found.estimate.allocated,
        "winner": found.estimate.winner.name,
        "seconds": found.seconds and timing.bounds(found.seconds),
    }


def _reason(reason: Reason) -> dict[str, str]:
    return {"text": show.sentence(reason), "source": reason.source}
