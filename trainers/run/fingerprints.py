"""What a run was started with, so that a resume with anything else is noticed and named."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import torch

from recipes.errors import Problem, RecipeError
from recipes.plan import Data, Plan
from recipes.words import N_
from trainers.data import Example
from trainers.engine import Engine
from trainers.errors import DatasetError
from trainers.policy import Policy
from trainers.policy.source import sum_of

PACKAGES: Final = (
    "finetune-advisor",
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "safetensors",
)
SHOWN_CHARACTERS: Final = 24
JUDGED_ON: Final = ("base model", "chat template", "model.", "data.", "evaluation.", "adaptation.base")
SHARING: Final = frozenset(
    {"processes", "threads", "layout.processes", "layout.nodes", "layout.sharding", "schedule.accumulation"}
)
"""What may differ between two attempts that take the same steps, if their micro-batches are as many."""
UNUSED: Final = frozenset({"predicted"})
"""What a plan says and a run does not depend on."""


def fingerprints(plan: Plan, policy: Policy, engine: Engine) -> dict[str, str]:
    """Everything that the weights of a run depend on, by name: the recipe key by key, and what it stands on.

    The rows are in it by the sums of the recipe, which `check_rows` has held against the files.
    """
    said = plan.model_dump(mode="json", exclude=set(UNUSED), exclude_none=True)
    template = str(policy.tokenizer.chat_template)
    return dict(_flat(said)) | {
        "base model": sum_of(policy.source),
        "chat template": hashlib.sha256(template.encode()).hexdigest(),
        "threads": str(torch.get_num_threads()),
        "processes": str(engine.processes),
        "device": device_name(engine.device),
    }


def judged_on(prints: Mapping[str, str]) -> str:
    """What the scores of the untuned model depend on, in one sum."""
    mine = {name: value for name, value in sorted(prints.items()) if name.startswith(JUDGED_ON)}
    return hashlib.sha256(json.dumps(mine).encode()).hexdigest()


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """What differs, as `name: before -> now`."""
    names = sorted(before.keys() | now.keys())
    return tuple(
        f"{name}: {_short(before.get(name))} -> {_short(now.get(name))}"
        for name in names
        if before.get(name) != now.get(name)
    )


def same_steps(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether only the sharing differs: other processes, or parts of weights, and each step has the rows it had."""
    differing = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    return (
        not differing.isdisjoint(("processes", "layout.sharding"))
        and differing <= SHARING
        and _micro_batches(before) == _micro_batches(now)
    )


def _micro_batches(prints: Mapping[str, str]) -> int:
    """How many micro-batches a step has, over all processes."""
    return int(prints["processes"]) * int(prints["schedule.accumulation"])


def upgraded(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Libraries of another version: the run goes on, and bit-identity is no longer promised."""
    return changes(before, now) if before else ()


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    return {"python": platform.python_version(), **dict(_installed())}


def machine(engine: Engine) -> dict[str, str]:
    """Where a run ran."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "device": device_name(engine.device),
        "threads": str(torch.get_num_threads()),
        "processes": str(engine.processes),
    }


def device_name(device: torch.device) -> str:
    """The name of a GPU, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def check_rows(data: Data, home: Path) -> None:
    """Hold the files of rows against the sums in the recipe.

    Raises:
        DatasetError: A file cannot be read, or it is not the one that the recipe was written for.
    """
    for name, wanted in ((data.train, data.train_sha256), (data.held_out, data.held_out_sha256)):
        path = home / name
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DatasetError(
                N_("the rows cannot be read: {reason}"),
                remedy=N_("paths in a recipe are relative to it: keep the rows beside it"),
                where=str(path),
                reason=error.strerror or str(error),
            ) from None
        if found != wanted:
            raise DatasetError(
                N_("these are not the rows that the recipe was written for: sha256 {found}, not {wanted}"),
                remedy=N_("bring the old rows back, or write the recipe anew with `advisor recipe`"),
                where=str(path),
                found=found[:12],
                wanted=wanted[:12],
            )


def check_lengths(plan: Plan, where: str) -> None:
    """A row that may be trained must fit into a micro-batch.

    Raises:
        RecipeError: It may not.
    """
    room, longest = plan.schedule.micro_batch_tokens, plan.data.length_tokens
    if room < longest:
        problem = Problem(
            N_("schedule.micro_batch_tokens is {room}, and rows may have {longest} (data.length_tokens)"),
            "schedule.micro_batch_tokens",
            values={"room": room, "longest": longest},
        )
        raise RecipeError(where, [problem])


def check_context(examples: Sequence[Example], context: int | None, where: str) -> None:
    """A row must not be longer than what the model can read: beyond it no position was ever learned.

    Raises:
        RecipeError: One is.
    """
    longest = max((len(example.ids) for example in examples), default=0)
    if context is not None and longest > context:
        problem = Problem(
            N_(
                "rows have up to {longest} tokens, and the model reads {context}: set it to {context} at most"
            ),
            "data.length_tokens",
            values={"longest": longest, "context": context},
        )
        raise RecipeError(where, [problem])


def check_precision(plan: Plan, where: str) -> None:
    """Weights that move in float16 have moments in float16: squares of gradients are zero there, and steps infinite.

    Adapters move in float32 whatever the base is.

    Raises:
        RecipeError: The model's own weights would move in float16.
    """
    if plan.model.dtype == "float16" and plan.adaptation.kind in ("full", "last_layers", "named"):
        problem = Problem(
            N_("{kind} training in float16 ends in numbers that are none: take bfloat16 or float32"),
            "model.dtype",
            values={"kind": plan.adaptation.kind},
        )
        raise RecipeError(where, [problem])


def _flat(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _flat(one, f"{name}.{key}" if name else key)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _installed() -> Iterator[tuple[str, str]]:
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:  # a source tree that was never installed
            continue


def _short(value: str | None) -> str:
    if value is None:
        return "-"
    return value if len(value) <= SHOWN_CHARACTERS else value[:SHOWN_CHARACTERS] + "..."
