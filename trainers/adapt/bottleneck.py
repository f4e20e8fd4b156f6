"""Bottleneck adapters: h + U f(D h) behind attention and MLP, before the residual sum (Houlsby et al., 2019).

Behind the MLP alone it is the placement of Pfeiffer et al. (2021). peft has none, so this is ours, with its own
file: the tensors in safetensors, and a JSON beside it that says how to put them back. They cannot be merged, since
a function stands between D and U. Letters of shapes: T tokens, H hidden, W width.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from recipes.plan import Bottleneck
from recipes.words import N_
from trainers.adapt.names import blocks, wrong
from trainers.errors import Mismatch

WEIGHTS: Final = "bottleneck.safetensors"
CONFIG: Final = "bottleneck.json"
SCHEMA: Final = 1
START: Final = 1e-2
"""The spread of D at the start, as in Houlsby et al.; U is zero, so that the model begins as it was."""
Activation = Literal["relu", "gelu", "silu"]
FUNCTIONS: Final[Mapping[str, Callable[[Tensor], Tensor]]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}
ATTENTION: Final = ("self_attn", "attention", "attn", "self_attention")
MLP: Final = ("mlp", "feed_forward", "block_sparse_moe", "moe")
"""What architectures call the two halves of a block."""


class Adapter(nn.Module):
    """h + U f(D h), masters in fp32, arithmetic in the dtype of h."""

    def __init__(self, hidden: int, width: int, activation: Activation) -> None:
        super().__init__()
        self.down = nn.Linear(hidden, width)
        self.up = nn.Linear(width, hidden)
        self.activation = activation
        nn.init.normal_(self.down.weight, std=START)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, h: Tensor) -> Tensor:
        """`h` and what the adapter adds to it, [..., H]."""
        d_WH, d_W, u_HW, u_H = (
            w.to(h.dtype) for w in (self.down.weight, self.down.bias, self.up.weight, self.up.bias)
        )
        return h + F.linear(FUNCTIONS[self.activation](F.linear(h, d_WH, d_W)), u_HW, u_H)


def install(model: PreTrainedModel, plan: Bottleneck, seed: int) -> None:
    """Freeze the model and put untrained adapters into each block.

    Raises:
        RecipeError: The width is not narrow, or the halves of a block were not found.
    """
    torch.manual_seed(seed)
    hidden = model.config.get_text_config().hidden_size
    if plan.width >= hidden:
        raise wrong(
            N_("adaptation.width is {width}, which is no bottleneck: the model is {hidden} wide"),
            "adaptation.width",
            width=plan.width,
            hidden=hidden,
        )
    model.requires_grad_(False)
    halves = (ATTENTION, MLP) if plan.placement == "houlsby" else (MLP,)
    for block in blocks(model)[1]:
        for names in halves:
            half = _half(block, names)
            device = next(block.parameters()).device
            half.bottleneck = Adapter(hidden, plan.width, plan.activation).to(device)
            half.register_forward_hook(_through)


def remove(model: nn.Module) -> None:
    """Take the adapters out again: what is left is the base as it was."""
    for name in installed(model):
        half = model.get_submodule(name.rpartition(".")[0])
        del half.bottleneck


def installed(model: nn.Module) -> dict[str, Adapter]:
    """The adapters in a model, by name."""
    return {name: one for name, one in model.named_modules() if isinstance(one, Adapter)}


def save(model: nn.Module, directory: Path) -> None:
    """Write the adapters of a model, and how to put them back.

    Raises:
        OSError: The disk did not take it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    said = {"schema": SCHEMA, "adaptation": _plan(model).model_dump(mode="json")}
    save_file(_tensors(model), directory / WEIGHTS)
    (directory / CONFIG).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def load(model: PreTrainedModel, directory: Path) -> Bottleneck:
    """Put saved adapters into their base model, frozen; gives their settings.

    Raises:
        Mismatch: They are not whole, or they were made for a model of another shape.
    """
    try:
        said = json.loads((directory / CONFIG).read_bytes())
        plan = Bottleneck.model_validate_json(json.dumps(said["adaptation"]))
        saved = load_file(directory / WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Mismatch(
            N_("the bottleneck adapter cannot be read: {reason}"),
            remedy=N_("give the output directory of a run, with {config} and {weights} in it"),
            where=str(directory),
            reason=str(error)[:200],
            config=CONFIG,
            weights=WEIGHTS,
        ) from None
    install(model, plan, seed=0)
    here = _tensors(model)
    if {name: t.shape for name, t in here.items()} != {name: t.shape for name, t in saved.items()}:
        raise Mismatch(
            N_("this adapter was made for a model of another shape"),
            remedy=N_("load it on the base that it was trained on"),
            where=str(directory),
        )
    with torch.no_grad():
        for name, tensor in here.items():
            tensor.copy_(saved[name])
    model.requires_grad_(False)
    return plan


def _plan(model: nn.Module) -> Bottleneck:
    """What the adapters in a model were made from, read off them."""
    found = installed(model)
    one = next(iter(found.values()))
    halves = {name.split(".")[-2] for name in found}
    return Bottleneck(
        placement="pfeiffer" if len(halves) == 1 else "houlsby",
        width=one.down.out_features,
        activation=one.activation,
    )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": tensor
        for name, adapter in installed(model).items()
        for key, tensor in adapter.state_dict().items()
    }


def _half(block: nn.Module, names: tuple[str, ...]) -> nn.Module:
    for name, child in block.named_children():
        if name in names:
            return child
    raise wrong(
        N_(
            "the parts of a {block} were not found (there are {names}), so no bottleneck can stand behind them"
        ),
        "adaptation.kind",
        block=type(block).__name__,
        names=", ".join(name for name, _ in block.named_children()),
    )


def _through(half: nn.Module, _: tuple[object, ...], out: Any) -> Any:  # noqa: ANN401  (attention gives a tuple)
    """Lead what a half of a block gives through its adapter."""
    adapter: Adapter | None = half._modules.get("bottleneck")  # type: ignore[assignment]  # `install` put it there
    if adapter is None:  # it was taken out again
        return out
    return (adapter(out[0]), *out[1:]) if isinstance(out, tuple) else adapter(out)
