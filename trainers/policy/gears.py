"""Faster gears: blocks compiled where a run is long enough to earn it back, and the attention kernel of this GPU."""

from importlib.util import find_spec
from typing import Final

import torch
from torch.nn.attention import activate_flash_attention_impl
from transformers import PreTrainedModel

from recipes.errors import Problem, RecipeError
from recipes.plan import Plan
from recipes.words import N_
from trainers.adapt.names import blocks

WORTH_SECONDS: Final = 600.0
"""A cold compilation took 5 to 15 minutes elsewhere (Axolotl's documentation) for 19 to 27 % (torchtune, Axolotl);
below this predicted time of training, `auto` leaves it."""

OWN_FLASH: Final = {9: ("FA3", "flash_attn_interface"), 10: ("FA4", "flash_attn.cute")}
"""By generation of the GPU (major compute capability): the FlashAttention that was written for it (Hopper: Shah et al.,
2024, arXiv:2407.08608; Blackwell: its successor), as torch calls it, and the package that brings it."""


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


def own_flash(plan: Plan, device: torch.device) -> str | None:
    """Let the packed kernel of torch run on the FlashAttention written for this GPU, where that is installed.

    torch's own (FlashAttention 2) stays where it is not, and in deterministic mode. Comes before the model is loaded,
    so that the forward is proved with the kernel that will be used.

    Returns:
        Its name, or None if torch's own stays.
    """
    if device.type != "cuda" or plan.layout.deterministic:
        return None
    name, package = OWN_FLASH.get(torch.cuda.get_device_capability(device)[0], ("", ""))
    if not name or not _installed(package):
        return None
    try:
        activate_flash_attention_impl(name)
    except (
        ImportError,
        RuntimeError,
        ValueError,
    ):  # without kernels of ours, or a torch that knows no such one
        return None
    return name


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # not even what it is a part of
        return False
