"""The engine on DeepSpeed (ZeRO: Rajbhandari et al., 2020): moments, gradients and, from stage 3 on, weights in parts.

DeepSpeed is asked directly, not through accelerate: there it steps inside the last backward, before anybody has seen
the norm. Here the norm is asked for first, and the loop decides whether there is a step.

Neither of its modes of mixed precision is switched on: they would cast adapters in float32 to 16 bits, and send
gradients in 16 bits. Its optimizer keeps fp32 masters all the same, whatever the weights are, and adds gradients up in
float32.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import torch
from torch import Tensor, nn

from recipes.plan import Layout
from recipes.words import N_
from trainers.bits import joined, split
from trainers.engine.accelerated import Accelerated
from trainers.errors import MissingPackage, WrongLaunch

T = TypeVar("T")

MOMENTS: Final = ("exp_avg", "exp_avg_sq")


class Zero(Accelerated):
    """An `Engine`: processes and what they say to each other are accelerate's, the step is DeepSpeed's."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._library = _library(on_cpu=self.device.type == "cpu")
        self._library.init_distributed(verbose=False)  # it takes the group that is there
        self._settings = settings(self.processes, {"stage": 2, "contiguous_gradients": True})
        self._wrapped: Any = None

    def prepare(
        self, learner: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Wrap both; of the optimizer only which weights it has, and how they decay, is taken over.

        Raises:
            WrongLaunch: Weights of several types move.
        """
        _check_types(optimizer)
        groups = [{**group, "params": list(group["params"])} for group in optimizer.param_groups]
        inner = torch.optim.AdamW(
            [{"params": group["params"], "weight_decay": group["weight_decay"]} for group in groups],
            lr=groups[0]["lr"],
            fused=True,
        )
        self._wrapped = self._wrap(learner, inner)
        wrapped: nn.Module = self._wrapped
        return wrapped, self._beside(groups)

    def accumulate(self, learner: nn.Module, batches: Sequence[T]) -> Iterator[T]:
        """Give each micro-batch; gradients meet each time: what has not met is not divided."""
        for number, batch in enumerate(batches, start=1):
            self._wrapped.set_gradient_accumulation_boundary(number == len(batches))
            yield batch

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`, a scalar."""
        self._wrapped.backward(loss, scale_wrt_gas=False)

    def clip(self, weights: Iterable[Tensor], norm: float) -> Tensor:
        """Have the step scale all gradients to `norm` at most; the norm before, infinite if it is not a number."""
        self._wrapped.optimizer.clip_grad = norm
        return torch.tensor(self._norm(), device=self.device)

    def _wrap(self, learner: nn.Module, inner: torch.optim.Optimizer) -> Any:  # noqa: ANN401  (untyped library)
        wrapped, *_ = self._library.initialize(
            model=learner, optimizer=inner, config=self._settings, dist_init_required=False
        )
        return wrapped

    def _beside(self, groups: list[dict[str, Any]]) -> "ZeroAdamW":
        return ZeroAdamW(self._wrapped, groups, self._library.utils)

    def _norm(self) -> float:
        return float(self._wrapped.optimizer.scaled_global_norm())


class ZeroAdamW(torch.optim.Optimizer):
    """AdamW on fp32 masters, of which each process has a part.

    `param_groups` are those of the model's weights, as the loop and whoever counts them know them; `state` is
    empty: what is remembered of a weight is asked for with `remembered`, by all processes at the same time.
    """

    def __init__(
        self,
        wrapped: Any,  # noqa: ANN401  (untyped library)
        groups: list[dict[str, Any]],
        fragments: Any,  # noqa: ANN401  (untyped library)
    ) -> None:
        super().__init__(groups, {})
        self._wrapped = wrapped
        self._fragments = fragments
        self._group_of = {
            weight: number for number, group in enumerate(self.param_groups) for weight in group["params"]
        }
        for part in self._masters:
            self._inner.state[part] = {
                "step": torch.zeros((), dtype=torch.float32, device=part.device),
                **{kind: torch.zeros_like(part) for kind in MOMENTS},
            }
        self._link()

    def step(self, closure: object = None) -> None:  # type: ignore[override]  # no loss is given back
        """Move every weight; all processes get what each of them has moved."""
        if closure is not None:
            raise TypeError("the loss is not computed again in here")
        for own, part in zip(self.param_groups, self._inner.param_groups, strict=True):
            part["lr"] = own["lr"]
        self._wrapped.step()

    def whole(self, weight: nn.Parameter) -> Tensor:
        """A weight as it is saved, in its own type: rounded as what it lost is counted from (`trainers.bits`)."""
        return self._halves(weight)[0]

    def remembered(self, weight: nn.Parameter) -> dict[str, Tensor]:
        """What is remembered of a weight, whole, by the names that AdamW on one process has for it."""
        low = self._halves(weight)[1]
        return {
            **({} if low is None else {"low": low}),
            "step": self._part_state(weight)["step"].clone(),
            **{kind: self._fragments.safe_get_full_optimizer_state(weight, kind) for kind in MOMENTS},
        }

    @torch.no_grad()
    def put(self, weight: nn.Parameter, saved: Tensor, remembered: Mapping[str, Tensor]) -> None:
        """Put a saved weight and what was remembered of it back; each process keeps its part."""
        saved = saved.to(weight.device)
        low = remembered.get("low")
        master = saved.float() if low is None else joined(saved.contiguous(), low.to(weight.device))
        weight.copy_(master)
        self._fragments.safe_set_full_fp32_param(weight, master)
        if all(kind in remembered for kind in MOMENTS):
            for kind in MOMENTS:
                moment = remembered[kind].to(weight.device, torch.float32)
                self._fragments.safe_set_full_optimizer_state(weight, moment, kind)
            self._part_state(weight)["step"].copy_(remembered["step"])

    def _halves(self, weight: nn.Parameter) -> tuple[Tensor, Tensor | None]:
        """A master as a weight of the model's type, and what is missing in it."""
        master: Tensor = self._fragments.safe_get_full_fp32_param(weight)
        if weight.dtype != torch.bfloat16:
            return master, None
        high, low = (torch.empty_like(master, dtype=dtype) for dtype in (weight.dtype, torch.int16))
        split(master, high, low)
        return high, low

    @property
    def _inner(self) -> Any:  # noqa: ANN401  (untyped library)
        return self._wrapped.optimizer.optimizer

    @property
    def _masters(self) -> list[Tensor]:
        """This process's parts, a flat tensor for each group of weights."""
        return [part for group in self._inner.param_groups for part in group["params"]]

    def _link(self) -> None:
        """Have DeepSpeed find the moments of a weight before the first step too."""
        self._wrapped.optimizer._lazy_init_hp_params_optimizer_state()

    def _part_state(self, weight: nn.Parameter) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self._inner.state[self._masters[self._group_of[weight]]]
        return state


def _library(*, on_cpu: bool) -> Any:  # noqa: ANN401  (untyped library)
    """DeepSpeed, told where it computes before it looks by itself.

    Raises:
        MissingPackage: It is not installed.
    """
    if on_cpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    try:
        import deepspeed  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise MissingPackage("deepspeed", extra="deepspeed") from error
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # its sums through shared memory are compiled at the first start; one that is killed meanwhile leaves a lock
    # behind, for which every later one waits without a word
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def settings(processes: int, zero: Mapping[str, object]) -> dict[str, object]:
    """What DeepSpeed is told; it insists on a batch, although the loop counts it."""
    return {
        "train_batch_size": processes,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "zero_optimization": {"overlap_comm": False, **zero},
    }


def _check_types(optimizer: torch.optim.Optimizer) -> None:
    found = {weight.dtype for group in optimizer.param_groups for weight in group["params"]}
    types = sorted(str(dtype).removeprefix("torch.") for dtype in found)
    if len(types) > 1:
        raise WrongLaunch(
            N_("DeepSpeed moves weights of one type, and here move {types}"),
            remedy=N_('set layout.sharding = "none", or adapt with adaptation.kind = "lora"'),
            types=", ".join(types),
        )
