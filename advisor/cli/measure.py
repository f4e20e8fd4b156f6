"""`advisor measure`: how good a base model, a prompt and examples are on held-out rows, before anything is trained."""

from collections.abc import Sequence
from pathlib import Path

import click

from advisor.catalog.gpus import detect
from advisor.catalog.models import ModelShape
from advisor.catalog.models import model as known_model
from advisor.cli import voice, watch
from advisor.data import store
from advisor.data.convert import convert
from advisor.data.split import split
from advisor.errors import BadValue, NoRoom, UnknownName
from advisor.plan import judging
from advisor.reading import is_directory
from advisor.run.start import needs, start
from advisor.text import N_, t
from recipes.plan import Data, Evaluation, Model, Probe
from recipes.read import made
from recipes.rows import Row

PROBE = "probe.json"
TRAIN = "train.jsonl"
HELD_OUT = "held_out.jsonl"
SEED = 0
"""The split that `advisor recipe` makes of the same file."""
LENGTH_TOKENS = 2_048
"""Nothing is trained, so nothing is dropped for its length; the schema asks."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    help=t(N_("Measure a base model, a prompt and few-shot examples on held-out rows. Nothing is trained."))
)
@click.option("--model", "model_id", required=True, help=t(N_("A model directory, or a hub id.")))
@click.option("--data", type=FILE, help=t(N_("A dataset in any known format; a part of it is held out.")))
@click.option("--train", "train_path", type=FILE, help=t(N_("Or: rows to take the examples from.")))
@click.option("--held-out", "held_out_path", type=FILE, help=t(N_("... and rows to judge on.")))
@click.option("--prompt", help=t(N_("The instruction of the prompt arm.")))
@click.option("--few-shot-prompt", help=t(N_("The instruction above the examples, if it is another one.")))
@click.option(
    "--shots", type=click.IntRange(0, 64), default=3, show_default=True, help=t(N_("Examples shown."))
)
@click.option(
    "--rows", type=click.IntRange(1), default=100, show_default=True, help=t(N_("Rows judged at most."))
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help=t(N_("Length of an answer.")),
)
@click.option("--primary", help=t(N_("The score that decides: exact, fields, nll or the name of a check.")))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help=t(N_("Where to write.")),
)
@click.option("--json", "as_json", is_flag=True, help=t(N_("Print the events, one JSON object a line.")))
@click.pass_context
def command(
    ctx: click.Context,
    model_id: str,
    data: Path | None,
    train_path: Path | None,
    held_out_path: Path | None,
    prompt: str | None,
    few_shot_prompt: str | None,
    shots: int,
    rows: int,
    max_new_tokens: int,
    primary: str | None,
    output: Path,
    as_json: bool,
) -> None:
    """Write rows and a probe, then run it."""
    needs()
    _free(output)
    train, held_out = _rows(data, train_path, held_out_path)
    chosen = {
        "rows": rows,
        "max_new_tokens": max_new_tokens,
        "shots": shots,
        "prompt": prompt,
        "few_shot_prompt": few_shot_prompt,
        "primary": judging.decides(held_out, primary),
    }
    evaluation = made(Evaluation, chosen, "evaluation")
    dtype, layout = judging.on(detect(), _shape(model_id))
    probe = Probe(
        model=made(Model, {"id": _place(model_id), "dtype": dtype}, "model"),
        data=_written(output, train, held_out),
        evaluation=evaluation,
        layout=layout,
    )
    path = output / PROBE
    store.write_whole(path, [probe.model_dump_json(indent=2, exclude_none=True).encode()])
    ctx.exit(watch.to_the_end(start(path, run=output / "run", measure=True), as_json=as_json))


def _rows(
    data: Path | None, train: Path | None, held_out: Path | None
) -> tuple[Sequence[Row], Sequence[Row]]:
    """Rows to show and rows to judge: one file that is split, or two."""
    if data is not None and train is None and held_out is None:
        converted = convert(data)
        voice.note(N_("{count} rows, read as {format}"), count=len(converted.rows), format=converted.format)
        return split(converted.rows, None, SEED)
    if data is None and train is not None and held_out is not None:
        return store.read_rows(train), store.read_rows(held_out)
    raise BadValue(
        N_("it is not clear which rows to judge"),
        remedy=N_("give --data FILE, or both --train ROWS and --held-out ROWS"),
    )


def _free(output: Path) -> None:
    """Refuse a directory that holds anything but the traces of a measurement that never began.

    Rows are written under plain names: `-o .` would replace the `train.jsonl` of whoever is there.

    Raises:
        NoRoom: It holds something, or cannot be looked into.
    """
    try:
        found = {path.name for path in output.iterdir()} if is_directory(output) else set()
    except OSError as error:
        raise store.no_room(output, error) from None
    traces = {PROBE, TRAIN, HELD_OUT} if PROBE in found else set()
    if taken := sorted(found - traces):
        raise NoRoom(
            N_("the directory is not empty: it holds {name}"),
            remedy=N_("choose a new directory with -o; nothing was changed"),
            where=str(output),
            name=taken[0],
        )


def _shape(model: str) -> ModelShape | None:
    """The dimensions of the model; None for one of the hub that the catalogue does not have."""
    try:
        return known_model(model)
    except UnknownName:
        return None


def _place(model: str) -> str:
    """A directory by its full path, since the probe lies elsewhere; a hub id as it is."""
    return str(Path(model).resolve()) if is_directory(Path(model)) else model


def _written(output: Path, train: Sequence[Row], held_out: Sequence[Row]) -> Data:
    store.folder(output)
    return Data(
        train=TRAIN,
        train_sha256=store.write(output / TRAIN, train),
        held_out=HELD_OUT,
        held_out_sha256=store.write(output / HELD_OUT, held_out),
        length_tokens=LENGTH_TOKENS,
    )
