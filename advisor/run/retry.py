"""A run that ran out of memory goes on with a smaller recipe: lowered by the estimator, written down, resumed.

Whoever started a run and watches it does this, at most `TRIES` times. A run that was left alone ends with the facts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from advisor.catalog.gpus import detect
from advisor.catalog.models import ModelShape, model
from advisor.data import store, tokens
from advisor.errors import AdvisorError
from advisor.plan.proposal import Reason
from advisor.plan.relief import Relief, Shortage, relieved
from advisor.reading import is_directory, text
from advisor.run.directory import RECIPE, Run, read_marker
from advisor.run.follow import Outcome, events
from advisor.run.start import start
from recipes.errors import RecipeError
from recipes.plan import Plan
from recipes.read import read
from recipes.report import Event
from recipes.write import changed, write

TRIES: Final = 3
"""An estimate that is wrong three times over is wrong about something else."""
FULL: Final = "T0402"
"""The code of a run that ended because memory was full."""

Say = Callable[[Reason], str]


@dataclass(frozen=True, slots=True)
class Retry:
    """A run that goes on, what was changed for it (dotted key: before, after), and why."""

    run: Run
    changes: Mapping[str, tuple[object, object]]
    reason: Reason


def again(run: Run, ended: Outcome, say: Say) -> Retry | None:
    """Lower one knob and resume, if the run ran out of memory while it trained; else None.

    Args:
        run: A run of ours that has ended.
        ended: How.
        say: Puts the reason into the reader's language: it stands in the recipe above the value.

    Raises:
        AdvisorError: The recipe or its rows cannot be read, or the trainer cannot be started.
    """
    full = _full(run) if ended.code == FULL else None
    if full is None or full.text("phase") != "train":  # elsewhere no knob of a step would help
        return None
    relief = _relief(run, ended, full)
    if relief is None:
        return None
    path = run.path / RECIPE
    store.write_whole(path, [_recipe(text(path), relief, say(relief.reason)).encode()])
    resumed = start(path, run=run.path, resume=True, accept_changes=True)
    return Retry(resumed, MappingProxyType(relief.changes), relief.reason)


def _full(run: Run) -> Event | None:
    """The facts of the attempt that ended."""
    return next((event for event, _ in events(run.events, run.offset) if event.type == "oom"), None)


def _relief(run: Run, ended: Outcome, full: Event) -> Relief | None:
    plan = read(text(run.path / RECIPE), where=str(run.path / RECIPE))
    home = Path(str(read_marker(run.path).get("recipe_directory") or "."))
    directory = home / plan.model.id
    local = directory if is_directory(directory) else None
    return relieved(
        Shortage(
            plan=plan,
            shape=_shape(plan, local),
            stats=tokens.stats(store.read_rows(home / plan.data.train), local),
            device=detect().kind if plan.layout.device == "auto" else plan.layout.device,
            step=ended.step,
            saved=ended.saved_step is not None,
            lacking_bytes=_lacking(full),
        )
    )


def _recipe(before: str, relief: Relief, why: str) -> str:
    """The recipe with the values that changed; written anew where a hand has laid it out in another way."""
    values: dict[str, Any] = {key: after for key, (_, after) in relief.changes.items()}
    if relief.plan.predicted:
        values["predicted.peak_bytes"] = relief.plan.predicted.peak_bytes
    try:
        text_now = changed(before, values, why)
        if read(text_now) == relief.plan:
            return text_now
    except (KeyError, RecipeError):
        pass
    return write(relief.plan, dict.fromkeys(relief.changes, why))


def _shape(plan: Plan, local: Path | None) -> ModelShape | None:
    try:
        return model(str(local) if local else plan.model.id)
    except AdvisorError:
        return None


def _lacking(full: Event) -> int | None:
    """What was asked for beyond what was free."""
    requested, free = full.number("requested"), full.number("free")
    return None if requested is None else max(1, int(requested - (free or 0)))
