"""Weights and moments that are divided over processes: made whole to be saved, and divided again to go on.

Every function here that meets a divided tensor is something that all processes do at the same time, in one order.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from trainers.engine.zero import ZeroAdamW
from trainers.engine.zero3 import whole as weight_of_zero


def weights(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """The weights that move, whole, one after the other."""
    for name, weight in trained(model).items():
        yield name, optimizer.whole(weight) if isinstance(optimizer, ZeroAdamW) else _whole(weight)


def moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """What the optimizer remembers of them, whole, as `kind:name`."""
    for name, weight in trained(model).items():
        if isinstance(optimizer, ZeroAdamW):
            state = optimizer.remembered(weight)
        else:
            state = optimizer.state.get(weight, {})
        for kind, value in state.items():
            yield f"{kind}:{name}", _whole(value)


def put(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    saved: Mapping[str, Tensor],
    remembered: Mapping[str, Tensor],
) -> None:
    """Put saved weights and moments back, bit by bit; each process keeps its part."""
    own = trained(model)
    if isinstance(optimizer, ZeroAdamW):
        states: dict[str, dict[str, Tensor]] = {name: {} for name in own}
        for key, moment in remembered.items():
            kind, _, name = key.partition(":")
            states[name][kind] = moment
        for name, weight in own.items():
            optimizer.put(weight, saved[name], states[name])
        return
    with torch.no_grad():
        for name, weight in own.items():
            _local(weight).copy_(_local(_like(weight, saved[name])))
    for key, moment in remembered.items():
        kind, _, name = key.partition(":")
        optimizer.state[own[name]][kind] = _like(
            own[name], moment
        )  # fused AdamW counts steps on the device too


def settle(model: nn.Module, *, frozen: bool, main: bool) -> None:
    """Put whole weights (in the computer's memory) where divided ones are, in the main process; training is over.

    Args:
        model: Its parameters are replaced.
        frozen: Whether those that did not move are wanted too.
        main: Whether this is the process that keeps them.
    """
    done: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and _is_part(weight) and (frozen or weight.requires_grad):
                if id(weight) not in done:  # tied ones stay tied
                    gathered = _gathered(weight)
                    kept = gathered.cpu() if main else gathered.new_empty(0, device="cpu")
                    done[id(weight)] = nn.Parameter(kept, requires_grad=weight.requires_grad)
                module._parameters[name] = done[id(weight)]


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that move, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def shape(weight: Tensor) -> torch.Size:
    """The shape of all of a weight; DeepSpeed leaves nothing where it was."""
    whole: torch.Size = getattr(weight, "ds_shape", weight.shape)
    return whole


def _whole(tensor: Tensor) -> Tensor:
    """All of a tensor, in every process."""
    if not isinstance(tensor, DTensor):
        return tensor
    if tensor.dtype is not torch.int16:
        return tensor.full_tensor().detach()
    carried = DTensor.from_local(  # gloo does not move int16; bits are bits
        tensor.to_local().view(torch.bfloat16),
        tensor.device_mesh,
        tensor.placements,
        shape=tensor.shape,
        stride=tensor.stride(),
    )
    return carried.full_tensor().view(torch.int16)


def _is_part(weight: Tensor) -> bool:
    return isinstance(weight, DTensor) or hasattr(weight, "ds_shape")


def _gathered(weight: Tensor) -> Tensor:
    """All of a weight, in every process; of DeepSpeed's in the type of the model."""
    return weight_of_zero(weight) if hasattr(weight, "ds_shape") else _whole(weight)


def _like(weight: Tensor, value: Tensor) -> Tensor:
    """A value that was saved, where the weight is: this process's part of it, if the weight is divided."""
    value = value.to(weight.device)
    if not isinstance(weight, DTensor) or value.shape != weight.shape:
        return value
    return distribute_tensor(value, weight.device_mesh, weight.placements, src_data_rank=None)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
