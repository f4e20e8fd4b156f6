"""What makes an advice uncertain whatever the rules say: situations in which the sources disagree or a border is near."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from advisor.decide import predicates as p
from advisor.decide.answers import Answers
from advisor.decide.leaves import CONTEXT_LEAVES, SFT_LEAVES, TRAINING_LEAVES
from recipes.words import N_

FEW_ITEMS: Final = 50
"""Test items below which a measured success moves by ten points by chance."""
CLOSE: Final = 0.05
"""Distance from the target at which a measured success may lie on either side of it."""
MUCH_TEXT: Final = 10_000_000
"""Tokens from which some guides would train on a text that does not change, and others would look it up."""
FEW_EXAMPLES: Final = (50, 500)
"""Examples for which published results contradict each other (contract X1)."""
WINDOW_BORDER: Final = (0.3, 1.5)
"""Share of the context window at which "put it all in" and "retrieve" are about equal."""
MEMORY_BORDER: Final = 0.1
"""Share by which the rule of thumb for memory may be wrong."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A situation that keeps the confidence from being high, for the advice `leaf`."""

    holds: Callable[[Answers, str], bool | None]
    says: str


def _small_sample(a: Answers, _: str) -> bool:
    return a.prompt_success is not None and a.eval_set_size is not None and a.eval_set_size < FEW_ITEMS


def _near_target(a: Answers, _: str) -> bool:
    if a.prompt_success is None or a.target_success is None:
        return False
    return abs(a.prompt_success - a.target_success) <= CLOSE


def _both_missing(a: Answers, _: str) -> bool | None:
    return p.lacks_knowledge(a) and a.lacks_style_format


def _only_student_low(a: Answers, _: str) -> bool:
    return a.prompt_success is None and a.student_success is not None and a.student_success <= p.RARELY


def _between_reading_and_training(a: Answers, leaf: str) -> bool:
    size = max(a.corpus_tokens or 0, a.unlabelled_tokens or 0)
    return leaf in CONTEXT_LEAVES and size >= MUCH_TEXT and not p.changes_often(a) and not p.locked(a)


def _few_examples(a: Answers, leaf: str) -> bool:
    least, most = FEW_EXAMPLES
    return leaf in TRAINING_LEAVES and a.n_labelled is not None and least <= a.n_labelled <= most


def _judged_by_a_model(a: Answers, leaf: str) -> bool:
    return leaf in TRAINING_LEAVES and a.verifier == "llm_judge"


def _once_a_year(a: Answers, _: str) -> bool | None:
    return a.knowledge_change == "yearly" and p.lacks_knowledge(a)


def _window_border(a: Answers, leaf: str) -> bool:
    if leaf not in CONTEXT_LEAVES or a.corpus_tokens is None or not a.context_window:
        return False
    least, most = WINDOW_BORDER
    return least <= a.corpus_tokens / a.context_window <= most


def _memory_border(a: Answers, leaf: str) -> bool:
    have = p.memory_gb(a)
    if have is None or leaf not in SFT_LEAVES:
        return False
    needs = (p.needed_gb(a.model_params_b, each) for each in (p.FULL_BYTES, p.LORA_BYTES, p.QLORA_BYTES))
    return any(abs(need - have) <= MEMORY_BORDER * need for need in needs)


def _provider_closes(a: Answers, leaf: str) -> bool:
    return leaf == "managed_ft" and (a.provider in {None, "openai"} or a.provider_ft_available is None)


def _half_far(a: Answers, _: str) -> bool:
    return a.domain_shift == "moderate"


def _far_and_uncounted(a: Answers, leaf: str) -> bool:
    return bool(p.is_far(a)) and a.unlabelled_tokens is None and leaf in CONTEXT_LEAVES and not p.locked(a)


def _people_harmed(a: Answers, _: str) -> bool:
    return a.cost_of_failure is not None and a.human_fallback is False


def _untried_offline(a: Answers, leaf: str) -> bool:
    return a.privacy == "offline_device" and leaf in CONTEXT_LEAVES and a.retrieval_in_place is not True


DOUBTS: Final = (
    Doubt(_small_sample, N_("the success was counted on fewer than 50 items")),
    Doubt(_near_target, N_("the success is close to the target")),
    Doubt(_both_missing, N_("knowledge and style are both missing")),
    Doubt(_only_student_low, N_("only the small model was measured, not the best one")),
    Doubt(_between_reading_and_training, N_("more than 10 million tokens that may not change: the guides disagree")),
    Doubt(_few_examples, N_("50 to 500 examples: published results contradict each other")),
    Doubt(_judged_by_a_model, N_("only another model checks the answers")),
    Doubt(_once_a_year, N_("the facts change about once a year")),
    Doubt(_window_border, N_("the text is about as long as the context window")),
    Doubt(_memory_border, N_("the memory is within a tenth of what is needed")),
    Doubt(_provider_closes, N_("the provider's tuning is unconfirmed or near its end")),
    Doubt(_half_far, N_("the domain is moderately far from what the base model saw")),
    Doubt(_far_and_uncounted, N_("the field or the language is far, and nobody has counted its text")),
    Doubt(_people_harmed, N_("a failure has a price, and nobody can take over")),
    Doubt(_untried_offline, N_("nothing shows yet that looking things up runs on the device")),
)  # fmt: skip
"""The list of the decision notes (section 2.7): what shall never be answered with high confidence."""


def doubts(a: Answers, leaf: str) -> Iterator[str]:
    """The sentences that hold, as message ids."""
    return (doubt.says for doubt in DOUBTS if doubt.holds(a, leaf))
