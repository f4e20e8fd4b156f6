"""AdamW on weights that have fewer bits than their steps need, and with moments of 8 bit.

Weights of 16 bit that take steps of a small learning rate mostly stay where they are: bfloat16 has 8 bits of
mantissa, so a step below 1/512 of a weight is rounded away (Zamirai et al., 2020, arXiv:2010.06192). Here the
missing bits are kept beside the weight (`trainers.bits`), the moments are float32, and the update is torch's
fused AdamW in float32, bit for bit what AdamW does to fp32 masters. It goes piece by piece, so that what is float32
for a moment is small.

With `eight_bit` the moments are bitsandbytes' (Dettmers et al., 2021): the same update, with its own kernel.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from trainers.bits import joined, split
from trainers.errors import MissingPackage

PIECE: Final = 2**24
"""Weights that are float32 at one time: at 8 bytes each (weight and gradient) 128 MiB. Whole blocks of 8-bit moments."""
BLOCK: Final = 256
"""Weights that share one scale of 8-bit moments, in bitsandbytes."""
SMALLEST_8BIT: Final = 4096
"""Smaller tensors keep their moments in float32, as bitsandbytes does: they weigh nothing, and norms are delicate."""
BETAS: Final = (0.9, 0.999)
EPS: Final = 1e-8


class ExactAdamW(torch.optim.Optimizer):
    """AdamW whose state is tensors only, so that a checkpoint can keep all of it.

    State of a weight: `step` (fp32, one number), `low` (int16, only of an exact bfloat16 weight), and either
    `exp_avg` and `exp_avg_sq` (the moments) or, of 8 bit, `moment1`, `moment2` (uint8) with `scale1`, `scale2`
    (fp32, one for each `BLOCK`).

    `found_inf`, if somebody sets it, is a scalar on the device: where it is not zero, weights and all state stay as
    they are. bitsandbytes' kernel does not know it, so with moments of 8 bit whoever steps has to look himself.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        exact: bool = True,
        eight_bit: bool = False,
        paged: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": BETAS, "eps": EPS, "weight_decay": 0.0})
        self.grad_scale: Tensor | None = None
        self.found_inf: Tensor | None = None
        self._step_supports_amp_scaling = not eight_bit  # torch's name for: it heeds `found_inf`
        self._exact = exact
        self._eight = EightBit(paged=paged) if eight_bit else None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # no loss is given back
        """Move every weight that has a gradient."""
        if closure is not None:
            raise TypeError("the loss is not computed again in here")
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group)
        if self._eight:
            self._eight.settle()

    def _move(self, weight: Tensor, group: dict[str, Any]) -> None:
        """Move one weight, a piece at a time."""
        state = self.state[weight]
        eight = self._eight if weight.numel() >= SMALLEST_8BIT else None
        if not weight.is_contiguous():  # of a transposed file; a flat copy of it would be moved in vain
            weight.data = weight.data.contiguous()
        if not state:
            state.update(self.begin(weight))
        if eight:
            eight.place(state)
        step = state["step"]
        step += 1
        alike = {kind: _flat(value) for kind, value in state.items() if value.shape == weight.shape}
        own, grad = _flat(weight), _flat(weight.grad)
        for piece in _pieces(own.numel()):
            part = {kind: value[piece] for kind, value in alike.items()}
            weight_N = own[piece]
            whole_N = joined(weight_N, part["low"]) if "low" in state else weight_N
            grad_N = grad[piece].to(whole_N.dtype)
            if eight:
                eight.update(whole_N, grad_N, part, eight.scales(state, piece), int(step), group)
            else:
                self._fused(whole_N, grad_N, part, step, group)
            del grad_N  # before the halves are made: 8 bytes a weight of the piece at most
            if "low" in state:
                split(whole_N, weight_N, part["low"])
        if self.found_inf is not None and not eight:
            step -= self.found_inf.reshape(())

    def begin(self, weight: Tensor) -> dict[str, Tensor]:
        """The state of a weight that was never moved."""
        low = self._exact and weight.dtype == torch.bfloat16
        found = {"low": torch.zeros_like(weight, dtype=torch.int16)} if low else {}
        if self._eight and weight.numel() >= SMALLEST_8BIT:
            return found | self._eight.begin(weight)
        dtype = torch.float32 if low else weight.dtype
        return found | {
            "step": torch.zeros((), dtype=torch.float32, device=weight.device),
            "exp_avg": torch.zeros_like(weight, dtype=dtype),
            "exp_avg_sq": torch.zeros_like(weight, dtype=dtype),
        }

    def _fused(
        self, whole_N: Tensor, grad_N: Tensor, part: dict[str, Tensor], step: Tensor, group: dict[str, Any]
    ) -> None:
        """The kernel that `torch.optim.AdamW(fused=True)` calls; called here so that a step may have many pieces."""
        beta1, beta2 = group["betas"]
        torch._fused_adamw_(
            [whole_N],
            [grad_N],
            [part["exp_avg"]],
            [part["exp_avg_sq"]],
            [],
            [step],
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
            grad_scale=self.grad_scale,
            found_inf=self.found_inf,
        )


class EightBit:
    """Moments in 8 bit, as bitsandbytes computes them; `paged` moments may leave a GPU that is full."""

    def __init__(self, *, paged: bool) -> None:
        try:
            from bitsandbytes import functional  # noqa: PLC0415  (only where it is wanted)
        except ImportError as error:
            raise MissingPackage("bitsandbytes") from error
        self._kernels: Any = functional
        self._paged = paged
        self._codes: tuple[Tensor, Tensor] = (
            self._kernels.create_dynamic_map(signed=True),
            self._kernels.create_dynamic_map(signed=False),
        )

    def begin(self, weight: Tensor) -> dict[str, Tensor]:
        """The state of a weight that was never moved."""
        blocks = -(-weight.numel() // BLOCK)
        scale = torch.zeros(blocks, dtype=torch.float32, device=weight.device)
        moment = torch.zeros_like(weight, dtype=torch.uint8)
        return {
            "step": torch.zeros((), dtype=torch.float32),
            "moment1": moment,
            "moment2": moment.clone(),
            "scale1": scale,
            "scale2": scale.clone(),
        }

    def place(self, state: dict[str, Tensor]) -> None:
        """See that the moments are where they belong; new ones and those of a checkpoint are on the device."""
        state["step"] = state["step"].cpu()  # the kernel takes a number, so it must not be waited for
        for kind in ("moment1", "moment2") if self._paged else ():
            if state[kind].is_cuda:
                state[kind] = self._pageable(state[kind])
            if _is_paged(state[kind]):
                self._kernels.prefetch_tensor(state[kind])

    def settle(self) -> None:
        """Wait for the GPU where its moments lie in memory that the computer reads without asking it."""
        if self._paged and torch.cuda.is_available():
            torch.cuda.synchronize()

    def scales(self, state: dict[str, Tensor], piece: slice) -> tuple[Tensor, Tensor]:
        """The scales of a piece, which begins with a block."""
        blocks = slice(piece.start // BLOCK, -(-piece.stop // BLOCK))
        return state["scale1"][blocks], state["scale2"][blocks]

    def update(
        self,
        whole_N: Tensor,
        grad_N: Tensor,
        part: dict[str, Tensor],
        scales: tuple[Tensor, Tensor],
        step: int,
        group: dict[str, Any],
    ) -> None:
        """One update of a piece."""
        first, second = self._codes
        self._codes = (first.to(whole_N.device), second.to(whole_N.device))  # once
        beta1, beta2 = group["betas"]
        moments = [part[kind] for kind in ("moment1", "moment2")]
        if whole_N.is_cuda and self._paged:
            for moment in moments:
                vars(moment)["is_paged"] = True  # a part of paged memory does not know
        self._kernels.optimizer_update_8bit_blockwise(
            "adam",
            grad_N,
            whole_N,
            *moments,
            beta1,
            beta2,
            0.0,
            0.0,
            group["eps"],
            step,
            group["lr"],
            *self._codes,
            *scales,
            weight_decay=group["weight_decay"],
        )

    def _pageable(self, moment: Tensor) -> Tensor:
        """The same in memory that the driver moves between GPU and computer; torch takes it for the computer's."""
        paged: Tensor = self._kernels.get_paged(*moment.shape, dtype=moment.dtype, device=moment.device)
        paged.copy_(moment)
        return paged


def _is_paged(tensor: Tensor) -> bool:
    return bool(getattr(tensor, "is_paged", False))


def _flat(tensor: Tensor | None) -> Tensor:
    """All elements of this process in a row: a view of weights and state; of a gradient a copy, if need be."""
    if tensor is None:
        raise TypeError("a weight without a gradient does not move")
    local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return local.detach().reshape(-1)


def _pieces(numel: int) -> Iterator[slice]:
    return (slice(start, min(start + PIECE, numel)) for start in range(0, numel, PIECE))
