"""What is judged: a model with its tokenizer, quiet."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch


class Subject(Protocol):
    """What judging asks of a policy. The model may carry an adapter."""

    @property
    def model(self) -> Any:  # noqa: ANN401  (a PreTrainedModel or a PeftModel around one; they share no type)
        """Has `generate`, `forward` and `config`; its attention understands padding."""

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401  (transformers publishes no type for what `from_pretrained` returns)
        """Decodes, and knows its special tokens."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""


@contextmanager
def quiet(subject: Subject) -> Iterator[None]:
    """Judge without gradients and dropout; the model is handed back as it was.

    Its attention stays the one it was loaded with, which transformers chose: some models have no other.
    """
    model = subject.model
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def context_tokens(subject: Subject) -> int:
    """How many tokens the model reads at most; tokenizers say 10^30 when they do not know."""
    config = subject.model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    known = (getattr(text, "max_position_embeddings", None), subject.tokenizer.model_max_length)
    return min(int(limit) for limit in known if limit)
