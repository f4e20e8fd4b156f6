"""The same bits each time: what torch and CUDA's matrix library are told before the first product."""

import os
from typing import Final

import torch

from recipes.plan import Layout

WORKSPACE: Final = "CUBLAS_WORKSPACE_CONFIG"
FIXED: Final = (":4096:8", ":16:8")
"""The workspaces with which cuBLAS promises the same bits: 8 buffers of 4 MiB, or 8 of 16 KiB (slower)."""


def settle(layout: Layout) -> None:
    """Take only operations that give the same bits each time, or any again.

    An operation that has no such form then raises; attention goes document by document, since kernels for whole rows
    add gradients up in any order.

    Args:
        layout: `deterministic` says which.
    """
    torch.use_deterministic_algorithms(layout.deterministic)
    if layout.deterministic and os.environ.get(WORKSPACE) not in FIXED:
        os.environ[WORKSPACE] = FIXED[0]
