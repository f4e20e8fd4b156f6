"""DeepSpeed with weights in parts too (ZeRO-3): a decoder block is whole while it is computed, as with FSDP2.

DeepSpeed gathers a module's own weights when the module is called. Our functions read the weights of several modules
at once, and the loss reads the head's without calling it. So a block is gathered as one thing (its leaf modules), and
what stands around the blocks (embeddings, last norm, head) stays whole all the time: only its gradients, masters and
moments are divided.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from recipes.plan import Layout
from trainers.bits import joined
from trainers.engine.sharded import decoder_blocks
from trainers.engine.zero import MOMENTS, Zero, ZeroAdamW, settings

T = TypeVar("T")


class Zero3(Zero):
    """An `Engine` whose processes hold no whole weights between two forwards."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._divides = True
        self._settings = settings(
            self.processes,
            {"stage": 3, "stage3_param_persistence_threshold": 0, "contiguous_gradients": True},
        )

    def divide(self, learner: nn.Module) -> nn.Module:
        """Wrap a learner that is only judged."""
        self._part(learner.requires_grad_(False))
        wrapped, *_ = self._library.initialize(model=learner, config=self._settings, dist_init_required=False)
        settled: nn.Module = self._settled(wrapped)
        return settled

    def together(self, learner: nn.Module, work: Callable[[], T]) -> T:
        """Do `work`, which calls the model past the learner, in every process; `learner` as it was wrapped."""
        try:
            with torch.no_grad():
                return work()
        finally:  # a forward that an exception ended (a probe asks what a model cannot do) lets nothing go
            _rest(_offload(learner))

    def _wrap(self, learner: nn.Module, inner: torch.optim.Optimizer) -> Any:  # noqa: ANN401  (untyped library)
        self._part(learner)
        return self._settled(super()._wrap(learner, inner))

    def _beside(self, groups: list[dict[str, Any]]) -> ZeroAdamW:
        return Zero3AdamW(self._wrapped, groups, self._library.utils)

    def _norm(self) -> float:
        from deepspeed.runtime.utils import combine_grad_norm_groups  # noqa: PLC0415  (an extra)

        return float(combine_grad_norm_groups(self._wrapped.optimizer._get_norm_groups()))

    def _part(self, learner: nn.Module) -> None:
        """Divide weight by weight, so that no device ever holds all of them."""
        found = decoder_blocks(learner)
        found[0].register_forward_pre_hook(_wants_gradient)
        kinds = {type(block) for block in found}
        self._library.utils.set_z3_leaf_modules(learner, list(kinds))
        self._library.zero.Init(module=learner, config_dict_or_path=self._settings)

    def _settled(self, wrapped: Any) -> Any:  # noqa: ANN401  (untyped library)
        """Keep whole what stands around the blocks."""
        inside = {weight for block in decoder_blocks(wrapped.module) for weight in block.parameters()}
        around = [weight for weight in wrapped.module.parameters() if weight not in inside]
        for weight in around:
            weight.ds_persist = True
            weight.is_external_param = (
                True  # heeded while the order of calls is not known yet, as the other is not
            )
        offload = _offload(wrapped)
        offload.persistent_parameters.extend(around)
        _rest(offload)
        return wrapped


class Zero3AdamW(ZeroAdamW):
    """AdamW on fp32 masters of weights that are in parts themselves."""

    @torch.no_grad()
    def put(self, weight: nn.Parameter, saved: Tensor, remembered: Mapping[str, Tensor]) -> None:
        """Put a saved weight and what was remembered of it back; each process keeps its part."""
        divided: Any = weight
        device = divided.ds_tensor.device
        low = remembered.get("low")
        master = (
            saved.to(device).float() if low is None else joined(saved.to(device).contiguous(), low.to(device))
        )
        divided.ds_tensor.copy_(self._part_of(weight, master))
        if weight.shape == master.shape:  # whole all the time
            weight.copy_(master)
        self._fragments.safe_set_local_fp32_param(weight, self._part_of(weight, master))
        if all(kind in remembered for kind in MOMENTS):
            for kind in MOMENTS:
                part = self._part_of(weight, remembered[kind].to(device, torch.float32))
                self._fragments.safe_set_local_optimizer_state(weight, part, kind)
            self._part_state(weight)["step"].copy_(remembered["step"])

    def _part_of(self, weight: nn.Parameter, whole: Tensor) -> Tensor:
        """This process's part, the last one filled up with zeros."""
        divided: Any = weight
        size, rank = divided.ds_tensor.numel(), torch.distributed.get_rank()
        part = whole.new_zeros(size)
        own = whole.reshape(-1)[size * rank : size * (rank + 1)]
        part[: own.numel()] = own
        return part

    @property
    def _masters(self) -> list[Tensor]:
        found: list[Tensor] = self._wrapped.optimizer.fp32_partitioned_groups_flat
        return found

    def _link(self) -> None:
        """Here it does."""

    def _part_state(self, weight: nn.Parameter) -> dict[str, Tensor]:
        optimizer = self._wrapped.optimizer
        number, *_ = optimizer.grad_position[optimizer.get_param_id(weight)]
        state: dict[str, Tensor] = optimizer.optimizer.state[self._masters[number]]
        return state


def _wants_gradient(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Have the input of the first block ask for its gradient, although nothing before it learns (adapters).

    DeepSpeed takes a leaf's gradients when that of its input is there, and too early where there is none.
    """
    (hidden, *rest) = args
    asks = torch.is_grad_enabled() and not hidden.requires_grad
    return (hidden.detach().requires_grad_() if asks else hidden, *rest)


def whole(weight: Any) -> Tensor:  # noqa: ANN401  (DeepSpeed's methods are on it)
    """All of a weight, in every process, in new memory."""
    from deepspeed import zero  # noqa: PLC0415  (an extra)

    with zero.GatheredParameters([weight]):
        found: Tensor = weight.detach().clone()
    return found


def _offload(wrapped: Any) -> Any:  # noqa: ANN401  (untyped library)
    """What of DeepSpeed gathers and lets go; without an optimizer it stands in its place."""
    return getattr(wrapped.optimizer, "parameter_offload", wrapped.optimizer)


def _rest(offload: Any) -> None:  # noqa: ANN401  (untyped library)
    """As between two forwards; which of them came last says nothing about the next."""
    coordinator = offload.get_param_coordinator()
    if not coordinator.is_invalid_trace():
        coordinator._invalidate_trace()
    offload.partition_all_parameters()
    around = offload.persistent_parameters
    around[0].all_gather(around)
