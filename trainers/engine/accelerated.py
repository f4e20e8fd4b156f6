"""The engine on Hugging Face accelerate: one process as it is, several as DDP or with FSDP2."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import Final, TypeVar

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import Tensor, nn

from recipes.plan import Layout
from trainers.engine import determinism, sharded
from trainers.engine.layout import check
from trainers.errors import Followed, exit_code

T = TypeVar("T")

PATIENCE: Final = timedelta(hours=6)
"""How long processes wait for one another: the main one evaluates and saves alone."""


class Accelerated:
    """An `Engine`. No mixed precision and no placing through accelerate: the model has both already."""

    def __init__(self, layout: Layout) -> None:
        check(layout)
        if layout.threads:
            torch.set_num_threads(layout.threads)
        determinism.settle(layout)
        self._accelerator = Accelerator(
            cpu=layout.device == "cpu",
            mixed_precision="no",  # its autocast wrapper would lift all outputs to fp32
            device_placement=False,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
        self._divides = layout.sharding == "fsdp2" and self.processes > 1

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return int(self._accelerator.num_processes)

    @property
    def rank(self) -> int:
        """The number of this process, from 0; 0 writes."""
        return int(self._accelerator.process_index)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self._accelerator.device
        return device

    @property
    def divides_weights(self) -> bool:
        """Whether no process holds the whole weights between two forwards."""
        return self._divides

    def prepare(
        self, learner: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Wrap both for the processes there are; in one process the learner comes back as it is.

        Raises:
            WrongLaunch: FSDP2 cannot divide this model.
        """
        if self._divides:
            sharded.settle(self._accelerator, learner)
        learner, optimizer = self._accelerator.prepare(learner, optimizer)
        return learner, optimizer

    def divide(self, learner: nn.Module) -> nn.Module:
        """Wrap a learner that is only judged; as it is where the weights are not divided."""
        return sharded.divide(self._accelerator, learner) if self._divides else learner

    def together(self, learner: nn.Module, work: Callable[[], T]) -> T:
        """Do `work`, which calls the model past the learner, in every process; `learner` as it was wrapped."""
        if not self._divides:
            return work()
        keeps = not self.agree(int(not sharded.has_room(learner, self.device)))
        return sharded.gathered(learner, work, keeps=keeps)

    def alone(self, work: Callable[[], T]) -> T | None:
        """Do `work` in the main process while the others wait; None in those.

        Raises:
            Followed: In the others, when the work failed.
        """
        result, failure = None, None
        if self.rank == 0:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001  (raised again below, after the others know)
                failure = error
        code = self.agree(0 if failure is None else exit_code(failure))
        if failure is not None:
            raise failure
        if code:
            raise Followed(code)
        return result

    def accumulate(self, learner: nn.Module, batches: Sequence[T]) -> Iterator[T]:
        """Give each micro-batch; gradients meet across processes at the last one only.

        FSDP2 lets them meet each time: what has not met is not divided, and would take the room of all gradients.
        """
        for number, batch in enumerate(batches, start=1):
            last = number == len(batches)
            self._accelerator.sync_gradients = last  # DeepSpeed steps inside backward when it is set
            with nullcontext() if last or self._divides else self._accelerator.no_sync(learner):
                yield batch

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`, a scalar."""
        self._accelerator.backward(loss)

    def clip(self, weights: Iterable[Tensor], norm: float) -> Tensor:
        """Scale all gradients to `norm` at most; the norm before, a scalar on the device."""
        found = self._accelerator.clip_grad_norm_(weights, norm)
        whole = found.full_tensor() if hasattr(found, "full_tensor") else found  # FSDP2 gives a DTensor
        return torch.as_tensor(whole, device=self.device)

    def sum(self, value: Tensor) -> Tensor:
        """The sum of `value` over processes."""
        summed: Tensor = self._accelerator.reduce(value, reduction="sum")
        return summed

    def agree(self, wish: int) -> int:
        """The largest `wish` of all processes: what one of them was told, all of them do."""
        if self.processes == 1:
            return wish
        wishes: Tensor = self._accelerator.gather(torch.tensor([wish], device=self.device))
        return int(wishes.max())

    def wait(self) -> None:
        """Wait until every process is here."""
        self._accelerator.wait_for_everyone()

    def leave(self) -> None:
        """Say goodbye to the other processes: nothing comes any more."""
        self.wait()
        self._accelerator.end_training()
