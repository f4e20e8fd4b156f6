"""From the plan to the processes: is this run started as its recipe says, and what do they share?"""

import os

import torch

from recipes.plan import Layout
from recipes.words import N_
from trainers.errors import WrongLaunch


def started_processes() -> int:
    """How many processes the launcher started together; torchrun and accelerate both say so."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check(layout: Layout) -> None:
    """Compare the layout with what is here.

    Raises:
        WrongLaunch: Another number of processes, or no such device.
    """
    started = started_processes()
    if started != layout.processes:
        raise WrongLaunch(
            N_("the recipe wants {wanted} process(es), and {started} started"),
            remedy=N_(
                "start it with: advisor train RECIPE, or torchrun --nproc-per-node={wanted} -m trainers run RECIPE"
            ),
            wanted=layout.processes,
            started=started,
        )
    if layout.device == "cuda" and not torch.cuda.is_available():
        raise WrongLaunch(
            N_("the recipe wants a CUDA device, and torch finds none"),
            remedy=N_('set layout.device = "cpu" (slow), or run it on a machine with a GPU and a CUDA build'),
        )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if layout.device != "cpu" and 0 < torch.cuda.device_count() < here:
        raise WrongLaunch(
            N_("{wanted} processes started on this computer, and it has {found} GPU(s): each needs its own"),
            remedy=N_("start as many as there are GPUs (--nproc)"),
            wanted=here,
            found=torch.cuda.device_count(),
        )
