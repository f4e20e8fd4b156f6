"""Merge an adapter into its base: one whole model, which any engine loads, and how far it is from the two apart."""

import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from recipes.plan import (
    Adaptation,
    Bottleneck,
    Dtype,
    Full,
    Ia3,
    LastLayers,
    Lora,
    Model,
    Named,
    Prefix,
    PromptTuning,
    PTuning,
)
from recipes.read import read
from recipes.words import N_
from trainers.adapt import bottleneck
from trainers.adapt.adapters import Base, belongs
from trainers.checkpoints.storage import move_directory, replace_file, sync_tree
from trainers.errors import CannotMerge, Mismatch
from trainers.policy import DTYPES, Policy, load
from trainers.policy.source import sum_of
from trainers.run.directory import Files, cannot_write, read_marker

RECEIPT: Final = "merge.json"
PROBE_TOKENS: Final = 256
"""How many positions the two models are compared at."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge came to.

    `difference` is the largest difference of any logit between the merged model and base + adapter, `largest` the
    largest logit it stands beside, over `positions` random tokens. `base_was` is how the base was held in training.
    """

    base: str
    base_was: str
    dtype: str
    adapters: tuple[str, ...]
    difference: float
    largest: float
    positions: int


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be merged: adapters, on a model that is relative to `home`."""

    model: Model
    home: Path
    adaptation: Adaptation
    adapters: tuple[Path, ...]


def merge(source: Path, out: Path) -> Merged:
    """Merge the adapter of a run, or one that lies by itself, and write a whole model with its tokenizer.

    A quantised base is made dense first: the adapter was trained on the rounded weights, and belongs to them.

    Args:
        source: A run directory, or a directory with `adapter_config.json`.
        out: Where to; new or empty.

    Raises:
        CannotMerge: There is nothing to merge, or it cannot be merged; the reason is told.
        Mismatch: The adapter does not belong to the base.
        SaveFailed: The disk did not take it.
    """
    order = _order(source)
    _free(out)
    with _quiet():
        return _merged(order, out)


@contextmanager
def _quiet() -> Iterator[None]:
    """What libraries say of themselves while they merge helps nobody; what goes wrong is raised."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # not annotated
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # not annotated
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _merged(order: _Order, out: Path) -> Merged:
    policy = load(order.model, order.home, torch.device("cpu"), order.adaptation)
    base = Base(order.model.id, sum_of(policy.source))
    for directory in order.adapters:
        belongs(directory, base)
    ids = _probe(policy.causal)
    apart = _with_adapters(policy.causal, order.adapters)
    wanted = _logits(apart, ids)
    tuner: Any = apart
    plain: Any = tuner.unload() if len(order.adapters) else apart
    held = _held(order.adaptation)
    dense = plain if held == "dense" else plain.dequantize(dtype=DTYPES[order.model.dtype])
    whole: Any = _with_adapters(dense, order.adapters)
    names = list(whole.peft_config)
    model: PreTrainedModel = whole.merge_and_unload(safe_merge=True, adapter_names=names)
    found = _logits(model, ids)
    result = Merged(
        base=order.model.id,
        base_was=held,
        dtype=order.model.dtype,
        adapters=tuple(str(directory) for directory in order.adapters),
        difference=float((found - wanted).abs().max()),
        largest=float(wanted.abs().max()),
        positions=ids.shape[1],
    )
    _write(out, policy, model, result)
    return result


def _order(source: Path) -> _Order:
    """What a person means by a directory: a run, the output of a run, or an adapter."""
    root = source.parent if source.name == "output" and (source.parent / "recipe.toml").is_file() else source
    files = Files(root)
    if files.recipe.is_file():
        plan = read(files.recipe.read_text(encoding="utf-8"), where=str(files.recipe))
        _mergeable(plan.adaptation, files.output)
        marker = read_marker(files)
        home = Path(marker.recipe_directory) if marker else root
        found = tuple(sorted(path.parent for path in files.output.rglob("adapter_config.json")))
        if not found:
            raise CannotMerge(
                N_("this run has no output yet"),
                remedy=N_("let it finish first: advisor train --resume {run}"),
                where=str(root),
                run=str(root),
            )
        return _Order(plan.model, home, plan.adaptation, found)
    if (source / bottleneck.CONFIG).is_file():
        _mergeable(Bottleneck(), source)
    config = source / "adapter_config.json"
    if not config.is_file():
        raise CannotMerge(
            N_("there is neither a run (recipe.toml) nor an adapter (adapter_config.json)"),
            remedy=N_("give a run directory, or the directory of an adapter"),
            where=str(source),
        )
    return _alone(source, config)


def _alone(source: Path, config: Path) -> _Order:
    """An adapter without a recipe; it names its base, and its kind."""
    try:
        said = json.loads(config.read_bytes())
        kind, base = str(said["peft_type"]), str(said["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Mismatch(
            N_("the adapter's configuration cannot be read: {reason}"),
            remedy=N_("give the output directory of a LoRA run"),
            where=str(config),
            reason=str(error)[:200],
        ) from None
    kinds: dict[str, Adaptation] = {
        "LORA": Lora(),
        "IA3": Ia3(),
        "PREFIX_TUNING": Prefix(),
        "P_TUNING": PTuning(),
        "PROMPT_TUNING": PromptTuning(),
    }
    if kind not in kinds:
        raise CannotMerge(
            N_("adapters of the kind {kind} are not known here"),
            remedy=N_("give an adapter of LoRA, DoRA or IA3"),
            where=str(source),
            kind=kind,
        )
    _mergeable(kinds[kind], source)
    model = Model(id=base, revision=said.get("revision"), dtype=_dtype(base))
    return _Order(model, Path(), kinds[kind], (source,))


def _dtype(base: str) -> Dtype:
    """What the base is stored in, if that can be seen from here."""
    try:
        said = json.loads((Path(base) / "config.json").read_bytes())
    except (OSError, ValueError):
        return "bfloat16"
    known: dict[object, Dtype] = {"float32": "float32", "bfloat16": "bfloat16", "float16": "float16"}
    return known.get(said.get("dtype", said.get("torch_dtype")), "float32")


def _mergeable(adaptation: Adaptation, output: Path) -> None:
    """Let pass what is a change of matrices; refuse the rest, each with its reason."""
    match adaptation:
        case Lora() | Ia3():
            return
        case Full() | LastLayers() | Named():
            problem = N_("this is a whole model already: there is nothing to merge")
            remedy = N_("use {output} as it is")
        case Bottleneck():
            problem = N_("a bottleneck adapter cannot be merged: a function stands between its two matrices")
            remedy = N_("load {output} on its base instead: trainers.adapt.bottleneck.load")
        case Prefix() | PTuning() | PromptTuning():
            problem = N_("learned positions cannot be merged: they are input of the model, not weights")
            remedy = N_("load {output} on its base with peft instead: PeftModel.from_pretrained")
    raise CannotMerge(problem, remedy=remedy, where=str(output), output=str(output))


def _held(adaptation: Adaptation) -> str:
    return adaptation.base if isinstance(adaptation, Lora) else "dense"


def _with_adapters(model: PreTrainedModel, directories: tuple[Path, ...]) -> PeftModel:
    """The model with all adapters active.

    Raises:
        Mismatch: One does not fit.
    """
    names = [directory.name if len(directories) > 1 else "default" for directory in directories]
    try:
        found = PeftModel.from_pretrained(model, str(directories[0]), adapter_name=names[0])
        for name, directory in zip(names[1:], directories[1:], strict=True):
            found.load_adapter(str(directory), adapter_name=name)
    except (RuntimeError, ValueError, OSError, KeyError, TypeError, SafetensorError) as error:
        raise Mismatch(
            N_("this adapter does not fit the base: {reason}"),
            remedy=N_("give an adapter that was trained on this base"),
            where=str(directories[0]),
            reason=" ".join(str(error).split())[:300],
        ) from None
    tuner: Any = found.base_model
    tuner.set_adapter(names)
    return found.eval()


def _probe(model: PreTrainedModel) -> Tensor:
    """Random tokens, [1, P]: what is compared is arithmetic, not sense."""
    words = int(model.config.get_text_config().vocab_size)
    return torch.randint(words, (1, PROBE_TOKENS), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _logits(model: torch.nn.Module, ids: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits.float()


def _free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CannotMerge(
            N_("{out} is there already, and is not an empty directory"),
            remedy=N_("choose a new directory; nothing was changed"),
            where=str(out),
            out=str(out),
        )


def _write(out: Path, policy: Policy, model: PreTrainedModel, result: Merged) -> None:
    """Write the model all at once."""
    part = out.with_name(f".{out.name}-{os.getpid()}")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(part)
        policy.tokenizer.save_pretrained(part)
        replace_file(part / RECEIPT, (json.dumps(asdict(result), indent=1) + "\n").encode())
        sync_tree(part)
        if out.is_dir():
            out.rmdir()
        move_directory(part, out)
    except (OSError, SafetensorError) as error:
        reason = error if isinstance(error, OSError) else OSError(0, str(error)[:200])
        raise cannot_write(out, reason) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
