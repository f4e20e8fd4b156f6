"""`advisor plan`: the plan that fits, with the reason for each value. Nothing is written."""

from pathlib import Path

import click

from advisor.catalog.gpus import hardware
from advisor.catalog.models import model
from advisor.cli import voice
from advisor.data.convert import convert
from advisor.data.split import split
from advisor.data.store import sum_of
from advisor.data.tokens import stats
from advisor.plan.compose import TRAINED_LEAVES, RowFiles, Wanted, propose, run_name
from advisor.plan.judging import evaluation
from advisor.plan.proposal import Proposal, Reason
from advisor.show import plan as show
from advisor.text import N_, t


@click.command(help=t(N_("Show the plan that fits your hardware, with the reason for each value.")))
@click.option("--model", "model_name", required=True, help=t(N_("A model of the catalogue, or a directory.")))
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help=t(N_("Examples: JSONL, JSON, CSV, Parquet or text.")),
)
@click.option(
    "--leaf",
    type=click.Choice(TRAINED_LEAVES),
    default="sft_lora",
    show_default=True,
    help=t(N_("The method, by the name that the advice gives it.")),
)
@click.option("--vram", type=float, help=t(N_("Memory of the card in GB.")))
@click.option("--gpu", help=t(N_("A card of the catalogue.")))
@click.option("--json", "as_json", is_flag=True, help=t(N_("One JSON object on stdout.")))
def command(
    model_name: str, data: Path, leaf: str, vram: float | None, gpu: str | None, as_json: bool
) -> None:
    """Show the plan that fits your hardware, with the reason for each value."""
    shape, machine = model(model_name), hardware(vram, gpu)
    if machine.note:
        voice.note(machine.note, gpu=machine.name)
    train, held_out = split(convert(data).rows, None, 0)
    directory = Path(model_name) if Path(model_name).is_dir() else None
    found = propose(
        Wanted(
            leaf=leaf,
            name=run_name(data.stem),
            model_id=shape.name,
            shape=shape,
            data=RowFiles("train.jsonl", sum_of(train), "held_out.jsonl", sum_of(held_out)),
            stats=stats(train, directory),
            evaluation=evaluation(train, held_out, directory),
            hardware=machine,
        )
    )
    if as_json:
        voice.envelope("plan", _data(found))
    else:
        click.echo(show.text(found))


def _data(found: Proposal) -> dict[str, object]:
    seconds = found.seconds
    return {
        "plan": found.plan.model_dump(mode="json", exclude_none=True),
        "why": {key: _reason(reason) for key, reason in found.why.items()},
        "concessions": [_reason(reason) for reason in found.concessions],
        "fit": found.fit,
        "peak_allocated_bytes": found.estimate.allocated,
        "winner": found.estimate.winner.name,
        "seconds": seconds and {"low": seconds.low, "high": seconds.high},
    }


def _reason(reason: Reason) -> dict[str, str]:
    return {"text": show.sentence(reason), "source": reason.source}
