"""FSDP2 (Zhao et al., 2023): weights, gradients and moments of each decoder block divided over the processes.

A block is gathered when its forward begins and let go when that ends; likewise in the backward. What stands around
the blocks (embeddings, last norm, head) is gathered for the whole step: the loss reads the head's weight without
calling the head. Adapters in float32 stay in the group of their block, beside a base of 16 bits: FSDP2 moves bytes,
and only what is trained must be of one type.
"""

from collections.abc import Callable
from typing import Final, TypeVar, cast

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import DistributedType
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, register_fsdp_forward_method
from torch.distributed.fsdp._fully_shard._fsdp_common import TrainingState
from transformers import PreTrainedModel

from recipes.words import N_
from trainers.errors import WrongLaunch

T = TypeVar("T")

SPARE: Final = 1.3
"""Whole weights are kept while judging if so many times their size is free: keys, values and logits need room too."""


def settle(accelerator: Accelerator, learner: nn.Module) -> None:
    """Have `prepare` divide the learner, block by block.

    accelerate takes its plugin only where it finds several GPUs; on a CPU it would train with DDP, without a word.

    Raises:
        WrongLaunch: The model has no blocks that can be told, or weights of several types move in one of them.
    """
    _check_types(learner)
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="TRANSFORMER_BASED_WRAP",
        transformer_cls_names_to_wrap=sorted({type(block).__name__ for block in decoder_blocks(learner)}),
        reshard_after_forward=True,
        cpu_ram_efficient_loading=False,
        mixed_precision_policy=MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False),
    )
    accelerator.state.distributed_type = DistributedType.FSDP


def divide(accelerator: Accelerator, learner: nn.Module) -> nn.Module:
    """Divide a learner that no optimizer belongs to."""
    settle(accelerator, learner.requires_grad_(False))
    wrapped: nn.Module = fsdp2_prepare_model(accelerator, learner)
    return wrapped


def gathered(learner: nn.Module, work: Callable[[], T], *, keeps: bool) -> T:
    """Do `work` as if it were the learner's forward: what stands around the blocks is whole in it.

    With `keeps` a block that was gathered once stays whole until the work is done.
    """
    if not isinstance(learner, FSDPModule):
        raise TypeError(f"not divided: {type(learner).__name__}")
    blocks = [
        module for module in learner.modules() if isinstance(module, FSDPModule) and module is not learner
    ]
    vars(learner)["called"] = _call  # a method of this one object
    register_fsdp_forward_method(learner, "called")
    try:
        for block in blocks:
            block.set_reshard_after_forward(not keeps, recurse=False)
        with torch.no_grad():
            result: T = cast(Callable[..., T], learner.called)(work)
        return result
    finally:
        for block in (learner, *blocks):
            _idle(block)
            block.reshard()  # or the next forward would compute with weights of before the step
        for block in blocks:
            block.set_reshard_after_forward(True, recurse=False)


def _idle(block: FSDPModule) -> None:
    """Have no forward under way: one that an exception ended (a probe asks what a model cannot do) never says so."""
    state = block._get_fsdp_state()
    state._state_ctx.iter_forward_root = None
    state._training_state = TrainingState.IDLE
    one = getattr(state, "_fsdp_param_group", None)  # its name before torch 2.12
    for group in getattr(state, "_fsdp_param_groups", [one] if one else []):
        group._training_state = TrainingState.IDLE


def has_room(learner: nn.Module, device: torch.device) -> bool:
    """Whether the whole weights fit beside what this process holds already."""
    if device.type != "cuda":
        return True
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return free > SPARE * sum(weight.numel() * weight.element_size() for weight in learner.parameters())


def _call(work: Callable[[], T]) -> T:
    return work()


def decoder_blocks(learner: nn.Module) -> list[nn.Module]:
    """The decoder blocks, whatever a model calls them.

    Raises:
        WrongLaunch: There are none that can be told from other lists of modules.
    """
    causal = next(module for module in learner.modules() if isinstance(module, PreTrainedModel))
    layers = causal.config.get_text_config().num_hidden_layers
    for module in causal.modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return list(module)
    raise WrongLaunch(
        N_("decoder blocks are what is divided, and those of {architecture} were not found"),
        remedy=N_('set layout.sharding = "none" or "zero2"'),
        architecture=type(causal).__name__,
    )


def _check_types(learner: nn.Module) -> None:
    blocks = decoder_blocks(learner)
    inside = {weight for block in blocks for weight in block.parameters()}
    around = [weight for weight in learner.parameters() if weight not in inside]
    for group in (around, *(list(block.parameters()) for block in blocks)):
        types = {str(weight.dtype).removeprefix("torch.") for weight in group if weight.requires_grad}
        if len(types) > 1:
            raise WrongLaunch(
                N_("FSDP2 moves weights of one type in a block, and here move {types}"),
                remedy=N_('set layout.sharding = "none" or "zero2", or adapt with adaptation.kind = "lora"'),
                types=", ".join(sorted(types)),
            )
