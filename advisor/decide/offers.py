"""What is offered second beside the primary leaf, because a source document names it or the sources disagree."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from advisor.decide.answers import Answers
from recipes.words import N_

LITTLE: Final = 1_000
"""Examples up to which a data set is little: the smallest that every source calls enough (contract X1)."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A leaf to name beside a primary one, and why it is second."""

    leaf: str
    beside: frozenset[str]
    when: Callable[[Answers], bool]
    why: str


def _little_or_quick(a: Answers) -> bool:
    little = a.n_labelled is not None and a.n_labelled <= LITTLE
    return little or a.iteration in {"fast", "hours"}


def _many(_: Answers) -> bool:
    return True


OFFERS: Final = (
    Offer("p_tuning", frozenset({"sft_lora", "sft_qlora"}), _little_or_quick,
          N_("Little data and quick changes suit P-tuning too; in a controlled comparison LoRA was 6 to 17 points better.")),
    Offer("adapters", frozenset({"multi_lora"}), _many,
          N_("Bottleneck adapters switch tasks as well; many LoRA adapters on one base are served more widely.")),
)  # fmt: skip


def offers(a: Answers, leaf: str) -> Iterator[Offer]:
    """What is offered beside `leaf`."""
    return (offer for offer in OFFERS if leaf in offer.beside and offer.when(a))
