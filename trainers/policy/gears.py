"""Compiled blocks: where a run is long enough to earn the compilation back, or where somebody asks for it."""

from typing import Final

import torch
from transformers import PreTrainedModel

from recipes.errors import Problem, RecipeError
from recipes.plan import Plan
from recipes.words import N_
from trainers.adapt.names import blocks

WORTH_SECONDS: Final = 600.0
"""A cold compilation took 5 to 15 minutes elsewhere (Axolotl's documentation) for 19 to 27 % (torchtune, Axolotl);
below this predicted time of training, `auto` leaves it."""


def check(plan: Plan) -> None:
    """Refuse a gear that is not there, before anything is loaded.

    Raises:
        RecipeError: A CUDA graph is wished for.
    """
    if plan.layout.cuda_graph:
        text = N_(
            "layout.cuda_graph: replaying a micro-batch as one CUDA graph was never measured on a GPU, "
            "so it is not offered yet: make it false"
        )
        raise RecipeError("recipe.toml", [Problem(text, "layout.cuda_graph")])


def compiles(plan: Plan, device: torch.device) -> bool:
    """Whether the blocks of this run are compiled.

    `auto` wants a GPU, and a predicted time of training that is at least `WORTH_SECONDS`.
    """
    match plan.layout.compile:
        case "on":
            return True
        case "off":
            return False
        case _:
            seconds = plan.predicted.seconds_low if plan.predicted else None
            return device.type == "cuda" and seconds is not None and seconds >= WORTH_SECONDS


def compile_blocks(model: PreTrainedModel) -> int:
    """Compile each decoder block by itself at its first call; how many there are.

    Blocks are alike, so one compilation serves all. Rows differ a little in length: lengths are symbols, or each
    new one would compile again. Attention stays outside, since it knows its documents by name.
    """
    _, found = blocks(model)
    for block in found:
        block.compile(dynamic=True)
    return len(found)
