"""`advisor recipe`: examples and a model to a directory that trains: recipe.toml, its rows, perhaps a script."""

import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import count
from math import isfinite
from pathlib import Path
from typing import Any, Final

import click

from advisor.catalog.gpus import hardware
from advisor.catalog.models import ModelShape
from advisor.catalog.models import model as known_model
from advisor.cli import voice
from advisor.cli.data import MAP, mapping, warn
from advisor.cli.facts import Sources, gather, report
from advisor.data import store
from advisor.data.convert import convert
from advisor.data.facts import facts_of
from advisor.data.split import split
from advisor.data.tokens import stats
from advisor.decide.answers import parse
from advisor.errors import BadValue, NoRoom, Refused
from advisor.estimate.memory import estimate, fit
from advisor.estimate.setup import setup
from advisor.estimate.time import Timing
from advisor.plan.compose import TRAINED_LEAVES, RowFiles, Wanted, propose, run_name, timed
from advisor.plan.judging import evaluation
from advisor.plan.methods import METHODS
from advisor.plan.proposal import Proposal, Reason
from advisor.text import N_, inert, t
from advisor.units import gib, seconds
from recipes.errors import RecipeError
from recipes.plan import Bottleneck, Lora, Plan, Predicted, Prefix, digest
from recipes.read import read
from recipes.rows import Row
from recipes.write import LAUNCHES, launch, toml, write

RECIPE: Final = "recipe.toml"
TRAIN: Final = "train.rows.jsonl"
HELD_OUT: Final = "held_out.rows.jsonl"
SCRIPT: Final = "train.py"
SCRIPT_RECIPE: Final = "recipe.json"
SCRIPT_NOTES: Final = "recipe.export.json"
OURS: Final = frozenset(
    {
        RECIPE,
        TRAIN,
        HELD_OUT,
        SCRIPT,
        SCRIPT_RECIPE,
        SCRIPT_NOTES,
        "output",
        *(n for t in LAUNCHES.values() for n in t),
    }
)
"""Everything that may stand in a directory of ours; a run directory has more and is not touched."""
EARLIER: Final = "recipe.{}.earlier.toml"
"""A recipe that a later one replaced."""
SEED: Final = 0
CHECKED: Final = "transformers 5.23.0, peft 0.21.2, torch 2.13.0"
"""The versions that the script was tried with."""


@dataclass(frozen=True, slots=True)
class Base:
    """The model that is asked for: its id in the recipe, its shape, and its directory if it is here."""

    id: str
    shape: ModelShape
    directory: Path | None


@dataclass(frozen=True, slots=True)
class Draft:
    """Everything that will be written, before anything is."""

    proposal: Proposal
    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    leaf: str

    @property
    def plan(self) -> Plan:
        """The plan of the recipe."""
        return self.proposal.plan


@click.command(
    help=t(N_("Write a recipe.toml, its rows and, if asked, a script that runs without this tool."))
)
@click.option(
    "--data",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    help=t(N_("The examples, in any known format.")),
)
@MAP
@click.option("--model", required=True, help=t(N_("A model directory, or a hub id of the catalogue.")))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help=t(N_("The directory to write: new, empty, or a recipe's.")),
)
@click.option(
    "--leaf",
    type=click.Choice(TRAINED_LEAVES),
    help=t(N_("The method (default: as the facts say, else sft_lora).")),
)
@click.option(
    "--method",
    type=click.Choice(tuple(METHODS)),
    help=t(N_("Another way to move the weights than the leaves have, in its usual form.")),
)
@click.option(
    "--fact",
    "facts",
    multiple=True,
    metavar="NAME=VALUE",
    help=t(N_("A fact that the method follows from; repeatable.")),
)
@click.option("--facts", "facts_file", type=click.Path(path_type=Path), help=t(N_("A JSON object of facts.")))
@click.option(
    "--report",
    "measured",
    type=click.Path(path_type=Path),
    help=t(N_("The report.json of a measurement: facts that were measured, and the speed of this machine.")),
)
@click.option("--name", help=t(N_("The name of the run (default: from the file).")))
@click.option("--vram", type=float, help=t(N_("Memory of the card in GB.")))
@click.option("--gpu", help=t(N_("A card of the catalogue.")))
@click.option("--prompt", help=t(N_("The instruction of the prompt arm.")))
@click.option("--few-shot-prompt", help=t(N_("The instruction above the examples, if it is another one.")))
@click.option("--primary", help=t(N_("The score that decides: exact, fields, nll or the name of a check.")))
@click.option(
    "--held-out",
    type=click.IntRange(1),
    help=t(N_("Rows kept from training (default: a tenth, 100 to 500).")),
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help=t(N_("A field of the recipe, by its dotted key; repeatable.")),
)
@click.option(
    "--target",
    type=click.Choice(["recipe", "script", *LAUNCHES]),
    default="recipe",
    show_default=True,
    help=t(
        N_(
            "What to write: a recipe for `advisor train`; beside it a script that needs no advisor, "
            "or files that start several processes."
        )
    ),
)
@click.option("-n", "--dry-run", is_flag=True, help=t(N_("Say what would be written; write nothing.")))
@click.option("--json", "as_json", is_flag=True, help=t(N_("One JSON object on stdout.")))
def command(
    file: Path,
    pairs: Sequence[str],
    model: str,
    output: Path,
    leaf: str | None,
    method: str | None,
    facts: Sequence[str],
    facts_file: Path | None,
    measured: Path | None,
    name: str | None,
    vram: float | None,
    gpu: str | None,
    prompt: str | None,
    few_shot_prompt: str | None,
    primary: str | None,
    held_out: int | None,
    target: str,
    changes: Sequence[str],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Convert, split, plan, write."""
    ours(output)
    base, machine = found_base(model), hardware(vram, gpu)
    if measured is not None and machine.kind == "cpu":  # speeds of a CPU are in no catalogue
        machine = replace(machine, forward_tokens_per_second=report(measured).forward_tokens_per_second)
    if machine.note:
        voice.note(machine.note, gpu=machine.name)
    converted = convert(file, mapping=mapping(pairs))
    warn(converted)
    train, judged = split(converted.rows, held_out, SEED)
    sources = Sources(facts=facts_file, flags=facts, report=measured)
    leaf = method or leaf or _decided(sources, facts_of(converted.rows))
    files = RowFiles(TRAIN, store.sum_of(train), HELD_OUT, store.sum_of(judged))
    counted = stats(train, base.directory)
    judged_by = evaluation(
        train, judged, base.directory, prompt=prompt, few_shot_prompt=few_shot_prompt, score=primary
    )
    wanted = Wanted(
        leaf, name or run_name(file.stem), base.id, base.shape, files, counted, judged_by, machine
    )
    proposal = changed(propose(wanted), _settings(changes), wanted)
    draft = Draft(proposal, train, judged, leaf)
    if target == "script":
        _trainable_by_script(draft.plan)
    beside = _beside(draft.plan, target)
    if not dry_run:
        written(draft, output, beside)
    if as_json:
        voice.envelope("recipe", _told(draft, output, target, dry_run=dry_run))
    else:
        click.echo("\n".join(_said(draft, output, target, dry_run=dry_run)))


# --- what is asked for ------------------------------------------------------------------------------------------


def ours(directory: Path) -> None:
    """Refuse a directory that holds anything that this command did not write.

    Raises:
        NoRoom: Something else lies there, or it cannot be looked into.
    """
    try:
        found = sorted(path.name for path in directory.iterdir()) if directory.exists() else []
    except OSError as error:
        raise store.no_room(directory, error) from None
    strange = [name for name in found if name not in OURS and not name.endswith(".earlier.toml")]
    if strange or (found and RECIPE not in found):
        raise NoRoom(
            N_("the directory is not empty and not a recipe's: it holds {name}"),
            remedy=N_("choose a new directory with -o; nothing was changed"),
            where=str(directory),
            name=(strange or found)[0],
        )


def found_base(model: str) -> Base:
    """The model of the catalogue or of a directory.

    Raises:
        UnknownName: Neither.
        BadValue: A directory without weights.
        Refused: A directory whose weights are pickles only.
    """
    shape, directory = known_model(model), Path(model)
    if not directory.is_dir():
        return Base(shape.name, shape, None)
    names = {path.suffix for path in directory.iterdir()}
    if ".safetensors" not in names:
        if names & {".bin", ".pt", ".pth", ".ckpt"}:
            raise Refused(
                N_("the weights exist only as pickles, which can run code"),
                remedy=N_("convert them to safetensors, or take a copy of the model that has them"),
                where=model,
            )
        raise BadValue(
            N_("the model directory has no weights (*.safetensors)"),
            remedy=N_("download the whole model; config and tokenizer alone cannot be trained"),
            where=model,
        )
    return Base(str(directory.resolve()), shape, directory)


def _decided(sources: Sources, counted: Mapping[str, object]) -> str:
    """The leaf that follows from the facts; where none is given, LoRA, and a note that nothing was decided."""
    if not (sources.facts or sources.flags or sources.report):
        voice.note(
            N_("nothing was decided: {leaf} is the default; facts or --leaf say otherwise"), leaf="sft_lora"
        )
        return "sft_lora"
    from advisor.decide.advise import advise

    leaf = advise(gather(sources, parse(counted, "data"))).primary
    voice.note(N_("the facts lead to {leaf}"), leaf=leaf)
    return leaf


def _pair(word: str, form: str) -> tuple[str, str]:
    key, mark, value = word.partition("=")
    if not (key.strip() and mark):
        raise BadValue(
            N_("{word!r} is not of the form {form}"), remedy=N_("write it as {form}"), word=word, form=form
        )
    return key.strip(), value.strip()


# --- changes by hand --------------------------------------------------------------------------------------------


def _settings(words: Sequence[str]) -> dict[str, object]:
    """`--set` words as dotted keys and values: TOML where it is TOML, else text."""
    found = dict[str, object]()
    for word in words:
        key, value = _pair(word, "KEY=VALUE")
        if not all(part.isidentifier() and part.isascii() for part in key.split(".")):
            raise BadValue(
                N_("{key!r} is not the key of a field"),
                remedy=N_("name it as the recipe does, such as schedule.epochs"),
                key=key,
            )
        found[key] = _scalar(value)
    return found


def _scalar(text: str) -> object:
    """`text` as TOML reads it, if that is a value of a recipe; else the text itself."""
    try:
        read_back = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return text
    value = read_back["value"]
    plain = isinstance(value, str | int | list) or (isinstance(value, float) and isfinite(value))
    return value if plain and len(read_back) == 1 else text


def changed(proposal: Proposal, settings: Mapping[str, object], wanted: Wanted) -> Proposal:
    """The proposal with fields that a person set, held against the schema and estimated anew.

    Raises:
        RecipeError: With everything that is wrong with the values.
    """
    if not settings:
        return proposal
    tree = proposal.plan.model_dump(mode="python", exclude_none=True)
    for key, value in settings.items():
        table, _, name = key.rpartition(".")
        place = tree.setdefault(table, {}) if table else tree
        if not isinstance(place, dict):
            raise BadValue(
                N_("{key!r} is not the key of a field"),
                remedy=N_("name it as the recipe does, such as schedule.epochs"),
                key=key,
            )
        place[name] = value
    try:
        plan = read(_as_toml(tree), where="--set")
    except RecipeError as error:  # the lines are those of a text that nobody sees
        problems = [replace(problem, line=None) for problem in error.problems]
        raise RecipeError(
            "--set", problems, remedy=N_("the fields and their values are those of recipe.toml")
        ) from None
    return _estimated(replace(proposal, plan=plan), settings, wanted)


def _as_toml(tree: Mapping[str, Any]) -> str:
    """Nested tables as TOML; every value through the one filter."""
    lines = [f"{key} = {toml(value)}" for key, value in tree.items() if not isinstance(value, dict)]
    for name, table in tree.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *(f"{key} = {toml(value)}" for key, value in table.items())]
    return "\n".join(lines)


def _estimated(proposal: Proposal, settings: Mapping[str, object], wanted: Wanted) -> Proposal:
    """What the changed plan needs; whether it still fits is said, not decided."""
    plan, machine = proposal.plan, wanted.hardware
    case = setup(plan, wanted.shape, wanted.stats, device=machine.kind)
    found = estimate(case)
    timing = timed(plan, wanted)
    time = timing.total if isinstance(timing, Timing) else None
    verdict = fit(found, machine.usable_bytes)
    if verdict != "fits":
        voice.note(
            N_("with these settings the run may need {needs}, and {hardware} has {has}"),
            needs=gib(found.process.high),
            hardware=machine.name,
            has=gib(machine.usable_bytes),
        )
    predicted = Predicted(
        peak_bytes=found.allocated,
        seconds_low=time.low if time else None,
        seconds_high=time.high if time else None,
        gpu=machine.gpu.name if machine.gpu else None,
    )
    said = {key: Reason(N_("set by you"), {}, "you") for key in settings}
    return replace(
        proposal,
        plan=plan if "predicted" in settings else plan.model_copy(update={"predicted": predicted}),
        why={**proposal.why, **said},
        estimate=found,
        timing=timing,
        fit=verdict,
    )


# --- writing ----------------------------------------------------------------------------------------------------


def written(draft: Draft, directory: Path, beside: Mapping[str, bytes]) -> None:
    """Write the rows, then what stands beside, and the recipe last: where it stands, all of it does.

    Raises:
        NoRoom: Something could not be written.
    """
    store.folder(directory)
    store.write(directory / TRAIN, draft.train)
    store.write(directory / HELD_OUT, draft.held_out)
    for name, content in beside.items():
        store.write_whole(directory / name, [content])
    why = {key: t(reason.text, **reason.values) for key, reason in draft.proposal.why.items()}
    text = write(draft.plan, why).encode()
    _kept(directory, text)
    store.write_whole(directory / RECIPE, [text])


def _kept(directory: Path, text: bytes) -> None:
    """Set aside the recipe that another one replaces: a person may have edited it."""
    recipe = directory / RECIPE
    if recipe.is_file() and recipe.read_bytes() != text:
        aside = next(name for number in count(1) if not (name := directory / EARLIER.format(number)).exists())
        recipe.rename(aside)
        voice.note(N_("the recipe that was there is kept as {name}"), name=str(aside))


def _beside(plan: Plan, target: str) -> dict[str, bytes]:
    """The files of a target, by name.

    Raises:
        BadValue: The plan has nothing that the target could say.
    """
    if target == "script":
        return script_files(plan)
    if target == "deepspeed" and plan.layout.sharding not in {"zero2", "zero3"}:
        raise BadValue(
            N_("DeepSpeed divides by ZeRO, and the plan has layout.sharding = {sharding!r}"),
            remedy=N_("say --set layout.sharding=zero2 (or zero3)"),
            sharding=plan.layout.sharding,
        )
    return {name: text.encode() for name, text in launch(target, plan).items()} if target in LAUNCHES else {}


def script_files(plan: Plan) -> dict[str, bytes]:
    """The script, the same for every plan, and what it reads: the plan as JSON. No value of a plan becomes code."""
    body = files("recipes").joinpath("templates", "export", "script", SCRIPT).read_bytes()
    settings = plan.model_dump(mode="json", exclude_none=True)
    notes = {
        "made_by": f"finetune-advisor {voice.VERSION}",
        "plan_sha256": digest(plan),
        "target": "transformers and peft",
        "checked_with": CHECKED,
        "run": f"python {SCRIPT}",
    }
    return {SCRIPT: body, SCRIPT_RECIPE: _json(settings), SCRIPT_NOTES: _json(notes)}


def _json(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=True, allow_nan=False, indent=2) + "\n").encode()


def _trainable_by_script(plan: Plan) -> None:
    """Refuse what the script cannot do, instead of leaving it out."""
    if plan.layout.processes > 1:
        raise BadValue(
            N_("the script trains in one process, and the plan asks for {processes}"),
            remedy=N_("set layout.processes=1, or train with `advisor train`"),
            processes=plan.layout.processes,
        )
    match plan.adaptation:
        case Bottleneck():
            raise BadValue(
                N_("the script has no bottleneck adapters: peft, which it stands on, has none"),
                remedy=N_("choose another method, or train with `advisor train`"),
            )
        case Lora(beneath=(_, *_)):
            raise BadValue(
                N_("the script trains one adapter on a base, and the plan has others beneath"),
                remedy=N_(
                    "merge them into the base first (`advisor runs merge`), or train with `advisor train`"
                ),
            )
        case Prefix() if plan.schedule.checkpointing:
            raise BadValue(
                N_("the script cannot recompute activations with a prefix: peft drops the prefix then"),
                remedy=N_("set schedule.checkpointing=false, or train with `advisor train`"),
            )


# --- telling ----------------------------------------------------------------------------------------------------


def _said(draft: Draft, directory: Path, target: str, *, dry_run: bool) -> Iterator[str]:
    plan, found = draft.plan, draft.proposal
    path = inert(str(directory / RECIPE))
    yield t(N_("would write {path}") if dry_run else N_("written: {path}"), path=path)
    yield t(N_("rows    {train} to train, {held} held out"), train=len(draft.train), held=len(draft.held_out))
    yield t(N_("method  {leaf} on {model}"), leaf=draft.leaf, model=inert(plan.model.id))
    yield t(N_("memory  {size} at the peak"), size=gib(found.estimate.allocated))
    if found.seconds:
        low, high = seconds(found.seconds.low), seconds(found.seconds.high)
        yield t(N_("time    {low} to {high}"), low=low, high=high)
    for reason in found.concessions:
        yield f"  - {inert(t(reason.text, **reason.values))}"
    for name in _beside(plan, target):
        yield t(N_("beside  {path}"), path=inert(str(directory / name)))
    yield t(N_("next    {command}"), command=inert(_next(directory, target)))


def _next(directory: Path, target: str) -> str:
    if target == "slurm":
        return f"cd {shlex.quote(str(directory))} && sbatch train.sbatch"
    words = {
        "script": ["python", str(directory / SCRIPT)],
        "torchrun": ["bash", str(directory / "launch.sh")],
        "accelerate": ["bash", str(directory / "launch.sh")],
    }.get(target, ["advisor", "train", str(directory / RECIPE)])
    return shlex.join(words)


def _told(draft: Draft, directory: Path, target: str, *, dry_run: bool) -> dict[str, object]:
    found = draft.proposal
    names = [
        RECIPE,
        TRAIN,
        HELD_OUT,
        *_beside(draft.plan, target),
    ]
    return {
        "directory": str(directory),
        "files": names,
        "written": not dry_run,
        "leaf": draft.leaf,
        "rows": {"train": len(draft.train), "held_out": len(draft.held_out)},
        "plan": draft.plan.model_dump(mode="json", exclude_none=True),
        "why": {key: t(reason.text, **reason.values) for key, reason in found.why.items()},
        "concessions": [t(reason.text, **reason.values) for reason in found.concessions],
        "fit": found.fit,
        "peak_allocated_bytes": found.estimate.allocated,
        "next": _next(directory, target),
    }
