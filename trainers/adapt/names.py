"""Names of modules and weights: what a recipe may point at, and what to say when it points at nothing."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from recipes.errors import Problem, RecipeError, Value
from recipes.words import N_

SHOWN: Final = 12
"""More names than this are not read."""


def wrong(text: str, key: str, **values: Value) -> RecipeError:
    """A recipe that asks for what this model does not have."""
    return RecipeError("recipe.toml", [Problem(text, key, values=values)])


def blocks(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The decoder blocks, and what the body of the model calls them.

    Raises:
        RecipeError: The model has no list of blocks as long as its configuration says.
    """
    depth = model.config.get_text_config().num_hidden_layers
    for name, child in model.base_model.named_children():
        if isinstance(child, nn.ModuleList) and len(child) == depth:
            return name, child
    raise wrong(
        N_("the blocks of {architecture} were not found, so its last layers cannot be told from the others"),
        "adaptation.kind",
        architecture=type(model).__name__,
    )


def linear(model: nn.Module) -> dict[str, nn.Module]:
    """Every linear module by its name, as long as nothing is wrapped around it yet."""
    return {name: one for name, one in model.named_modules() if isinstance(one, (nn.Linear, Conv1D))}


def size(layer: nn.Module) -> tuple[int, int]:
    """Inputs and outputs of a linear module; a weight in 4 bit no longer shows them."""
    if isinstance(layer, Conv1D):
        return layer.nx, layer.nf
    return int(layer.in_features), int(layer.out_features)  # type: ignore[arg-type]  # of `nn.Linear` and its kin


def tails(names: Iterable[str]) -> list[str]:
    """The last parts of dotted names, once each: what `targets` are made of."""
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))


def nearest(wanted: str, names: Sequence[str]) -> str:
    """The names that exist, the most similar first, as many as are read."""
    ranked = sorted(names, key=lambda name: -SequenceMatcher(None, wanted, name).ratio())
    more = len(ranked) - SHOWN
    return ", ".join(ranked[:SHOWN]) + (f", +{more}" if more > 0 else "")


def named_by(target: str, names: Iterable[str]) -> Iterator[str]:
    """The modules that a target means, by peft's rule: the whole name, or its end behind a dot."""
    return (name for name in names if name == target or name.endswith(f".{target}"))
