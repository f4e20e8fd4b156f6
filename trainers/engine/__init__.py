"""What the loop asks of the hardware; `accelerated` answers it for one process or several."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class Engine(Protocol):
    """Processes and devices, as far as a loop has to know them."""

    @property
    def processes(self) -> int:
        """How many processes train together."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0; 0 writes."""

    @property
    def device(self) -> torch.device:
        """Where this process computes."""

    @property
    def divides_weights(self) -> bool:
        """Whether no process holds the whole weights between two forwards."""

    def prepare(
        self, learner: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Wrap both for the processes there are."""

    def divide(self, learner: nn.Module) -> nn.Module:
        """Wrap a learner that is only judged; as it is where the weights are not divided."""

    def together(self, learner: nn.Module, work: Callable[[], T]) -> T:
        """Do `work`, which calls the model past the learner, in every process; `learner` as it was wrapped.

        Where weights are divided, a forward is something that all processes do at the same time. So they do the
        same here, on the same rows, and come to the same result.
        """

    def alone(self, work: Callable[[], T]) -> T | None:
        """Do `work` in the main process while the others wait; None in those.

        Raises:
            Followed: In the others, when the work failed.
        """

    def accumulate(self, learner: nn.Module, batches: Sequence[T]) -> Iterator[T]:
        """Give each micro-batch; gradients meet across processes at the last one only."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`, a scalar."""

    def clip(self, weights: Iterable[Tensor], norm: float) -> Tensor:
        """Scale all gradients to `norm` at most; the norm before, a scalar on the device."""

    def sum(self, value: Tensor) -> Tensor:
        """The sum of `value` over processes."""

    def agree(self, wish: int) -> int:
        """The largest `wish` of all processes: what one of them was told, all of them do."""

    def wait(self) -> None:
        """Wait until every process is here."""

    def leave(self) -> None:
        """Say goodbye to the other processes: nothing comes any more."""
