"""What is judged: a model with its tokenizer, quiet and on one attention that understands padding."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch


class Subject(Protocol):
    """What judging asks of a policy. The model may carry an adapter."""

    @property
    def model(self) -> Any:  # noqa: ANN401  (a PreTrainedModel or a PeftModel around one; they share no type)
        """Has `generate`, `forward`, `config` and `set_attn_implementation`."""

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401  (transformers publishes no type for what `from_pretrained` returns)
        """Decodes, and knows its special tokens."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""


@contextmanager
def quiet(subject: Subject) -> Iterator[None]:
    """Judge without gradients and dropout, on `sdpa`; the model is handed back as it was.

    Training may run on an attention made for flat rows of whole documents, which does not know padding.
    """
    model = subject.model
    was_training, attention = model.training, model.config._attn_implementation
    model.eval()
    model.set_attn_implementation("sdpa")
    try:
        with torch.no_grad():
            yield
    finally:
        model.set_attn_implementation(attention)
        model.train(was_training)


def context_tokens(subject: Subject) -> int:
    """How many tokens the model reads at most; tokenizers say 10^30 when they do not know."""
    config = subject.model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    known = (getattr(text, "max_position_embeddings", None), subject.tokenizer.model_max_length)
    return min(int(limit) for limit in known if limit)
