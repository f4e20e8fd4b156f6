"""What happens between two screens: files are laid out, a plan is proposed, a recipe is written. Nothing is asked here."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Final

from advisor.catalog.gpus import USABLE_SHARE, Hardware
from advisor.catalog.models import ModelShape, local
from advisor.data import store
from advisor.data.split import split
from advisor.data.tokens import stats
from advisor.decide.answers import Answers, merge, parse
from advisor.estimate.memory import estimate, fit
from advisor.estimate.profiles import NATIVE, NATIVE_CPU, Profile, profile
from advisor.estimate.setup import require_known
from advisor.estimate.shapes import parameters
from advisor.learn.lantern.base import base_dir
from advisor.learn.lantern.files import HELD_OUT, LENGTH_TOKENS, TRAIN, evaluation, layout, model
from advisor.learn.lantern.tasks import Task
from advisor.plan import judging
from advisor.plan.alternatives import Alternative, Fleet, alternatives
from advisor.plan.compose import TRAINED_LEAVES, RowFiles, Wanted, run_name
from advisor.plan.fits import METHODS, configuration
from advisor.plan.proposal import Proposal
from advisor.text import t
from advisor.tui.screens.hardware import Equipment
from advisor.tui.widgets.memory_bar import Need
from advisor.units import GIB
from recipes.errors import Failure
from recipes.plan import Data, Probe
from recipes.report import Report
from recipes.rows import Row
from recipes.write import write

RUNS: Final = Path("runs")
"""Where `advisor runs` looks, too."""
WALKS: Final = Path("walks")
"""Rows and recipes, one folder for each walk."""
EXAMPLE_ROWS: Final = 80
"""Held-out rows that each arm of the example answers: an interval of at most 22 points, a few seconds an arm."""
BAR_TOKENS: Final = 1024
"""Length of the row that the bars are drawn for, before the data is known."""


def new_name(kind: str) -> str:
    """A name for a run that no other one has: what it is about, and when it began."""
    return f"{run_name(kind)[:40]}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"


def needs(shape: ModelShape, hardware: Hardware) -> tuple[Need, ...]:
    """What each method needs for this model on this hardware, one row of `BAR_TOKENS` at once.

    Raises:
        Unsupported: No formula tells the model's memory.
    """
    used = profile(NATIVE_CPU if hardware.kind == "cpu" else NATIVE)
    require_known(shape)
    return tuple(_need(shape, method, used, hardware.usable_bytes) for method in METHODS)


def _need(shape: ModelShape, method: str, used: Profile, usable_bytes: int) -> Need:
    found = estimate(configuration(shape, method, seq_tokens=BAR_TOKENS, used=used))
    return Need(method, fit(found, usable_bytes), round(found.process.high))


def known(equipment: Equipment) -> Answers:
    """What card and model say about the task, each with where we have it from; a CPU says nothing of a card."""
    hardware, shape = equipment.hardware, equipment.model
    card, size = {}, hardware.gpu.memory_gb if hardware.gpu else None
    if hardware.kind == "cuda":
        card["vram_gb"] = size or round(hardware.usable_bytes / USABLE_SHARE / GIB, 1)
    model = {"model_params_b": round(parameters(shape) / 1e9, 3)} if shape.layers else {}
    return merge(parse(card, equipment.origin), parse(model, "hardware"))


def folder(name: str) -> Path:
    """Make the folder of a walk.

    Raises:
        NoRoom: The disk or a permission stands in the way.
    """
    return store.folder(WALKS / name)


def place(name: str) -> Path:
    """A directory for a run that is not there yet: a recipe may be tried again."""
    names = chain((name,), (f"{name}-{again}" for again in count(2)))
    return next(path for path in map(RUNS.joinpath, names) if not path.exists())


def own(rows: Sequence[Row], *, leaf: str, name: str, hardware: Hardware, shape: ModelShape) -> Wanted:
    """Part a person's rows, store them, and say what is wanted."""
    train, held_out = split(rows, None, 0)
    directory = Path(shape.name)
    return Wanted(
        leaf=leaf,
        name=name,
        model_id=str(directory.resolve()) if directory.is_dir() else shape.name,
        shape=shape,
        data=_stored(train, held_out, folder(name)),
        stats=stats(train, directory if directory.is_dir() else None),
        evaluation=judging.evaluation(train, held_out, directory if directory.is_dir() else None),
        hardware=hardware,
    )


def probe(task: Task, name: str) -> Path:
    """Lay out a task of the example, and write down what is to be measured."""
    path = folder(name)
    files = _stored(task.train, task.held_out, path)
    order = Probe(
        model=model(),
        data=Data(
            train=files.train,
            train_sha256=files.train_sha256,
            held_out=files.held_out,
            held_out_sha256=files.held_out_sha256,
            length_tokens=LENGTH_TOKENS,
        ),
        evaluation=evaluation(task, EXAMPLE_ROWS),
        layout=layout(),
    )
    written = path / "probe.json"
    store.write_whole(written, [order.model_dump_json(exclude_none=True, indent=1).encode()])
    return written


def example(task: Task, measured: Report, *, leaf: str, name: str, hardware: Hardware) -> Wanted:
    """Say what is wanted for a task of the example; the measurement also told how fast this machine is."""
    base = base_dir()
    return Wanted(
        leaf=leaf,
        name=name,
        model_id=str(base),
        shape=local(base),
        data=_stored(task.train, task.held_out, folder(name)),
        stats=stats(task.train, base),
        evaluation=evaluation(task, EXAMPLE_ROWS),
        hardware=replace(hardware, forward_tokens_per_second=measured.forward_tokens_per_second),
    )


def others(wanted: Wanted) -> tuple[Alternative, ...]:
    """Every way of training that fits there, best first; none where the list has nothing to say."""
    every = [replace(wanted, leaf=leaf) for leaf in TRAINED_LEAVES]
    try:
        return alternatives(every, Fleet(wanted.hardware.count), advised=wanted.leaf)
    except Failure:  # what was asked for fits, or has said why not: the list adds to it, and never takes away
        return ()


def recipe(proposal: Proposal) -> Path:
    """Write a proposal down as a recipe, with its reasons in the reader's language."""
    why = {key: t(reason.text, **reason.values) for key, reason in proposal.why.items()}
    path = folder(proposal.plan.name) / "recipe.toml"
    store.write_whole(path, [write(proposal.plan, why).encode()])
    return path


def _stored(train: Sequence[Row], held_out: Sequence[Row], path: Path) -> RowFiles:
    return RowFiles(
        train=TRAIN,
        train_sha256=store.write(path / TRAIN, train),
        held_out=HELD_OUT,
        held_out_sha256=store.write(path / HELD_OUT, held_out),
    )
