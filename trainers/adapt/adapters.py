"""LoRA adapters made by peft, on any base and beside others: what is asked for, held against the model first."""

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, Final, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel

from recipes.plan import Lora
from recipes.words import N_
from trainers.adapt.names import linear, named_by, nearest, size, tails, wrong
from trainers.errors import Mismatch

ALL_LINEAR: Final = ("all-linear",)
BASE: Final = "base.json"
"""Beside an adapter that was trained here: which base it belongs to."""
SHA256_DIGITS: Final = 64


@dataclass(frozen=True, slots=True)
class Base:
    """Which model an adapter stands on: its id, and the sum of its files (the commit of a hub model)."""

    id: str
    sum: str

    def write(self, directory: Path) -> None:
        """Say so beside an adapter."""
        text = json.dumps({"schema": 1, "id": self.id, "sum": self.sum}, indent=1)
        (directory / BASE).write_text(text + "\n", encoding="utf-8")


def install(model: PreTrainedModel, plan: Lora, seed: int, home: Path, base: Base | None) -> PeftModel:
    """Freeze the model and add adapters with fp32 masters.

    Args:
        model: The base, dense or quantised.
        plan: What to add.
        seed: Decides how the new adapter begins.
        home: What the directories of `plan.beneath` are relative to.
        base: What `model` was loaded from; None leaves adapters beneath unchecked.

    Raises:
        RecipeError: Targets that the model does not have, or a rank that no matrix has.
        Mismatch: An adapter beneath that was made for another base.
    """
    check(model, plan, home, base)
    config = LoraConfig(
        r=plan.rank,
        lora_alpha=plan.alpha,  # type: ignore[arg-type]  # peft divides it; a fraction is as good
        lora_dropout=plan.dropout,
        use_rslora=plan.rslora,
        use_dora=plan.dora,
        target_modules="all-linear" if plan.targets == ALL_LINEAR else list(plan.targets),
        task_type="CAUSAL_LM",
    )
    found: PeftModel | None = None
    below = _beneath(plan, home)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft 0.21 asks transformers 5.23 by an old name
            warnings.filterwarnings("ignore", ".*fan_in_fan_out")  # peft finds out itself how Conv1D lies
            # of experts that are no linear layers
            warnings.filterwarnings("ignore", ".*(rank|alpha)_pattern keys")
            for name, directory in below:
                found = _loaded(found or model, name, directory, base)
            torch.manual_seed(seed)
            if found is None:
                found = get_peft_model(model, config, adapter_name=plan.name)
            else:
                found.add_adapter(plan.name, config)
    except ValueError as error:  # peft: it cannot adapt such modules
        raise wrong(
            N_("adaptation.targets = {targets}: {reason}"),
            "adaptation.targets",
            targets=", ".join(plan.targets),
            reason=str(error)[:300],
        ) from None
    _activate(found, [name for name, _ in below], plan.name)
    return found


def notes(model: PeftModel, plan: Lora) -> Iterator[str]:
    """What somebody who chose LoRA would not expect of this model."""
    inner = cast(PreTrainedModel, model.get_base_model())
    head: nn.Module | None = inner.get_output_embeddings()  # type: ignore[no-untyped-call]  # not annotated
    if isinstance(head, LoraLayer):
        yield N_("the head has an adapter, so rows are trained document by document, which is slower")
    blocks = (name for name, weight in inner.named_parameters() if weight.ndim > 2 and ".experts." in name)
    if any("base_layer" not in name for name in blocks):  # peft wraps the blocks of some architectures
        yield N_(
            "experts that are stored as one block have no linear layers, so they stay frozen as they are"
        )
    if plan.base != "dense" and any(_left_dense(inner)):
        yield N_("some matrices inside the blocks are no plain linear layers, so they are not quantised")
    if plan.beneath:
        yield N_("the adapters beneath are part of the tuned arm only; the base is judged without them")


def _left_dense(model: PreTrainedModel) -> Iterator[str]:
    """Matrices inside the blocks that a quantised base holds as they were: fused experts, linear layers of an own class."""
    # routers and the like are small, and belong to no layer that anybody would quantise
    for name, weight in model.named_parameters():
        inside = ".layers." in name or ".h." in name or ".blocks." in name
        if inside and weight.ndim > 1 and weight.is_floating_point() and "lora_" not in name:
            layers = getattr(model.config.get_text_config(), "hidden_size", 1)
            if weight.numel() >= layers * layers:
                yield name


def check(model: PreTrainedModel, plan: Lora, home: Path, base: Base | None) -> None:
    """Hold targets, rank and the adapters beneath against the model, before anything is built.

    Raises:
        RecipeError: Targets that the model does not have, or a rank that no matrix has.
        Mismatch: An adapter beneath that was made for another base.
    """
    for _, directory in _beneath(plan, home):
        belongs(directory, base)
    layers = linear(model)
    if plan.targets == ALL_LINEAR:
        head = model.get_output_embeddings()  # type: ignore[no-untyped-call]  # not annotated
        wanted = [name for name, layer in layers.items() if layer is not head]
    else:
        names = [name for name, _ in model.named_modules()]
        for target in plan.targets:
            if not any(named_by(target, names)):
                raise wrong(
                    N_("adaptation.targets: the model has no module {target}; its linear modules: {names}"),
                    "adaptation.targets",
                    target=target,
                    names=nearest(target, tails(layers)),
                )
        wanted = [name for target in plan.targets for name in named_by(target, layers)]
    if not wanted:
        return
    name = min(wanted, key=lambda name: min(size(layers[name])))
    inputs, outputs = size(layers[name])
    if plan.rank > min(inputs, outputs):
        raise wrong(
            N_(
                "adaptation.rank is {rank}, and {name} is a matrix of {outputs} x {inputs}: it has no higher rank"
            ),
            "adaptation.rank",
            rank=plan.rank,
            name=name,
            outputs=outputs,
            inputs=inputs,
        )


def _beneath(plan: Lora, home: Path) -> list[tuple[str, Path]]:
    """The adapters below the new one, each with a name that no other has."""
    taken, found = {plan.name}, list[tuple[str, Path]]()
    for place in plan.beneath:
        directory = next((d for d in (home / place, Path(place)) if d.is_dir()), home / place)
        stem = "".join(c if c.isalnum() or c in "_-" else "_" for c in directory.resolve().name) or "adapter"
        name = next(n for n in chain([stem], (f"{stem}_{i}" for i in count(2))) if n not in taken)
        taken.add(name)
        found.append((name, directory))
    return found


def _loaded(model: PreTrainedModel | PeftModel, name: str, directory: Path, base: Base | None) -> PeftModel:
    """The model with one more adapter, if it belongs there.

    Raises:
        Mismatch: It does not, or it is no adapter.
    """
    belongs(directory, base)
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(str(directory), adapter_name=name, is_trainable=False)
            return model
        return PeftModel.from_pretrained(model, str(directory), adapter_name=name, is_trainable=False)
    except (RuntimeError, ValueError, OSError, KeyError, TypeError, SafetensorError) as error:
        raise Mismatch(
            N_("this adapter does not fit the base: {reason}"),
            remedy=N_("give an adapter that was trained on this base"),
            where=str(directory),
            reason=" ".join(str(error).split())[:300],
        ) from None


def belongs(directory: Path, base: Base | None) -> None:
    """Refuse an adapter that says it was trained on another base. A sum and a commit cannot be compared.

    Raises:
        Mismatch: It says so, or there is no adapter.
    """
    if not (directory / "adapter_config.json").is_file():
        raise Mismatch(
            N_("there is no adapter (adapter_config.json)"),
            remedy=N_("give the output directory of a LoRA run"),
            where=str(directory),
        )
    try:
        said = json.loads((directory / BASE).read_bytes())
        made_for, its_sum = str(said["id"]), str(said["sum"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # made elsewhere: only its shapes can tell
    if base is not None and len(its_sum) == len(base.sum) and its_sum != base.sum:
        raise Mismatch(
            N_("this adapter was trained on another base: {theirs} ({their_sum}), not {ours} ({our_sum})"),
            remedy=N_("give an adapter that was trained on this base"),
            where=str(directory),
            theirs=made_for,
            their_sum=its_sum[:12],
            ours=base.id,
            our_sum=base.sum[:12],
        )


def _activate(model: PeftModel, below: Sequence[str], trained: str) -> None:
    """Let all adapters speak, and only the new one learn."""
    tuner: Any = model.base_model
    tuner.set_adapter([*below, trained])
    for name, weight in model.named_parameters():
        parts = name.split(".")
        if any(one in parts for one in below):
            weight.requires_grad_(False)
