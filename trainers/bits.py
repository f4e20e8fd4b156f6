"""A 32-bit weight in two halves: the bfloat16 that the model computes with, and the 16 bits that it lost.

bfloat16 is the upper half of float32, so the nearest bfloat16 and a signed difference of 16 bits are the whole
number again: an fp32 master for 2 bytes a weight instead of 4. Ties are rounded away from zero, not to even as torch
rounds: to even, an even value would stand for 65,537 masters, one more than 16 bits can tell apart.

Letters of shapes: N weights of a piece.
"""

import torch
from torch import Tensor


def joined(weight_N: Tensor, low_N: Tensor) -> Tensor:
    """The whole weights, float32, in new memory.

    Args:
        weight_N: bfloat16, contiguous.
        low_N: int16, what `split` kept; zeros for a weight that was loaded as it is.
    """
    bits_N = weight_N.view(torch.int16).to(torch.int32)
    return bits_N.bitwise_left_shift_(16).add_(low_N).view(torch.float32)


def split(whole_N: Tensor, weight_N: Tensor, low_N: Tensor) -> None:
    """Round whole weights to the nearest bfloat16 into `weight_N`, and keep what is missing in `low_N`.

    `whole_N` (float32) is used up: it holds nothing of meaning afterwards.
    """
    bits_N = whole_N.view(torch.int32)
    high_N = (bits_N + 0x8000).bitwise_right_shift_(16)
    weight_N.view(torch.int16).copy_(high_N)
    low_N.copy_(bits_N.sub_(high_N.bitwise_left_shift_(16)))
