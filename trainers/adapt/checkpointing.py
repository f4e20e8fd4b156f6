"""Activations that are computed again in the backward instead of kept (Chen et al., 2016).

A checkpoint is the input of a block, or of several blocks in a row; it may wait in the computer's memory.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import _checkpoint_without_reentrant_generator, noop_context_fn
from transformers import PreTrainedModel

from trainers.adapt.names import blocks


def recompute(model: PreTrainedModel, *, layers: int = 1, offload: bool = False) -> None:
    """Keep one activation every `layers` blocks and compute the others again in the backward.

    Args:
        model: The causal model, with whatever was added to it.
        layers: How many blocks lie between two activations that are kept.
        offload: Keep them in the computer's memory, pinned; without effect where the model is there itself.

    Raises:
        RecipeError: The blocks of the model are not found, so that they cannot be taken together.
    """
    away = offload and next(model.parameters()).is_cuda
    if layers > 1:
        found = list(blocks(model)[1])
        for start in range(0, len(found), layers):
            _Together(found[start : start + layers], offload=away)
        return
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):  # its name since transformers 5.23
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options, offload=away)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options, offload=away)  # type: ignore[no-untyped-call]  # not annotated
    if getattr(model, "_require_grads_hook", None) is not None:
        # Only reentrant checkpoints need embeddings with a gradient. Here they would have every frozen block below
        # the first that moves kept, made again and run backward.
        model.disable_input_require_grads()  # type: ignore[no-untyped-call]  # not annotated


class _Together:
    """Blocks in a row that keep the input of the first; all others are made again from it.

    The model calls its blocks itself, each with arguments of its own, so the checkpoint is opened before the first
    block and closed after the last, as `torch.distributed._composable.checkpoint` does around one module. What the
    blocks were called with is remembered but for the hidden states.
    """

    def __init__(self, run: Sequence[nn.Module], *, offload: bool) -> None:
        self._run, self._offload = tuple(run), offload
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._again = False
        self._open = ExitStack()
        for block in self._run:
            block.register_forward_pre_hook(self._before, with_kwargs=True)
        self._run[-1].register_forward_hook(self._after)

    def _before(self, block: nn.Module, args: tuple[Any, ...], more: dict[str, Any]) -> None:
        if self._again or not (block.training and torch.is_grad_enabled()):
            return
        hidden, *others = args
        if block is self._run[0]:
            self._calls = []
            self._begin(hidden, self._calls)
        self._calls.append((tuple(others), more))

    def _begin(self, hidden: Tensor, calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> None:
        if self._offload:
            self._open.enter_context(save_on_cpu(pin_memory=True))

        def again(hidden: Tensor) -> Tensor:
            self._again = True
            try:
                for block, (others, more) in zip(self._run, calls, strict=True):
                    found = block(hidden, *others, **more)
                    hidden = found[0] if isinstance(found, tuple) else found
                return hidden
            finally:
                self._again = False

        frame = _checkpoint_without_reentrant_generator(
            again, True, noop_context_fn, "default", False, True, hidden
        )
        next(frame)
        self._open.callback(next, frame, None)

    def _after(self, *_: object) -> None:
        if not self._again:
            self._open.close()
