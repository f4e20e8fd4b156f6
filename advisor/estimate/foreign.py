"""Methods of peft that the native trainer does not have, as data: what they keep and what they move."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Final, Literal

from advisor.catalog.models import ModelShape
from advisor.estimate.shapes import adapted
from recipes.plan import Lora

GROUND: Final = Lora(rank=1)
"""All of them stand on a frozen base, as LoRA does."""


@dataclass(frozen=True, slots=True)
class Method:
    """What one adapted linear layer keeps for the backward; see the head of `foreign.toml` for units."""

    name: str
    words: tuple[str, ...] = ()
    counts: Literal["", "rank x outputs", "other"] = ""
    """This form has as many numbers that move as this says; "other" than rank x outputs."""
    params: Mapping[str, str] = field(default_factory=dict)
    """This form is asked for by these parameters of the method; one that is not told fits no form."""
    moves_norms: bool = False
    token_inputs: float = 0.0
    token_outputs: float = 0.0
    token_rank: float = 0.0
    token_shared: float = 0.0
    weight: float = 0.0
    held_rank: float = 0.0
    trained: float = 0.0
    buffers: float = 0.0

    def fits(
        self,
        shape: ModelShape,
        targets: tuple[str, ...],
        rank: int,
        trained: int,
        params: Mapping[str, object],
    ) -> bool:
        """Whether a record with these values means this form."""
        if self.counts:
            outputs = shape.layers * rank * sum(layer.outputs for layer in adapted(shape, targets))
            if (trained == outputs) != (self.counts == "rank x outputs"):
                return False
        return all(str(params.get(name)).lower() == value for name, value in self.params.items())


@dataclass(frozen=True, slots=True)
class Foreign:
    """One such method on the named linear layers; `trained` counts what moves, over all layers."""

    method: Method
    targets: tuple[str, ...]
    rank: int
    trained: int


@cache
def methods() -> tuple[Method, ...]:
    """Every method, each of its forms apart."""
    rows = tomllib.loads(files("advisor.estimate").joinpath("foreign.toml").read_text(encoding="utf-8"))
    return tuple(Method(**{**row, "words": tuple(row["words"])}) for row in rows["method"])


@cache
def forms(word: str) -> tuple[Method, ...]:
    """The forms of the method that goes by this word."""
    return tuple(one for one in methods() if word in (one.name, *one.words))


def kept(shape: ModelShape, foreign: Foreign) -> tuple[float, float]:
    """What a block keeps: bytes for each token, and bytes whatever the tokens."""
    method, layers = foreign.method, adapted(shape, foreign.targets) if foreign.targets else ()
    shared = {layer.reads: layer.inputs for layer in layers}
    token = (
        method.token_inputs * sum(layer.inputs for layer in layers)
        + method.token_outputs * sum(layer.outputs for layer in layers)
        + method.token_rank * foreign.rank * len(layers)
        + method.token_shared * sum(shared.values())
        + (2 * 2 * shape.hidden if method.moves_norms else 0.0)
    )
    weight = method.weight * sum(layer.weights for layer in layers)
    return token, weight + method.trained * foreign.trained / shape.layers


def held(shape: ModelShape, foreign: Foreign) -> float:
    """Bytes of frozen numbers that the method holds beside the base."""
    layers = adapted(shape, foreign.targets) if foreign.targets else ()
    each = foreign.method.held_rank * foreign.rank
    return shape.layers * each * sum(layer.inputs + layer.outputs for layer in layers)
