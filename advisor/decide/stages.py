"""The plan of work: what comes before and beside the primary leaf, with the obligatory attachments of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from advisor.decide import predicates as p
from advisor.decide import walk
from advisor.decide.advice import Stage
from advisor.decide.answers import Answers
from advisor.decide.constraints import standing, struck
from advisor.decide.leaves import (
    ATTACHMENTS,
    CONTEXT_LEAVES,
    LEAVES,
    PREFERENCE_LEAVES,
    PROMPT_LEAVES,
    SFT_LEAVES,
    TRAINING_LEAVES,
    WEIGHT_LEAVES,
)
from recipes.words import N_

Place = Literal["before", "after"]
When = Callable[[Answers, str], bool]
"""Takes the answers and the primary leaf."""


@dataclass(frozen=True, slots=True)
class Companion:
    """A leaf that belongs beside the primary one; `leaf` may follow from the answers."""

    leaf: str | Callable[[Answers], str]
    role: Literal["baseline", "companion"]
    place: Place
    when: When
    why: str


def _update(a: Answers) -> str:
    """How the weights move in a supervised stage."""
    return standing(walk.leaf(a, start="u_update"), a)


def _trains(_: Answers, leaf: str) -> bool:
    return leaf in TRAINING_LEAVES


def _constraint_helps(a: Answers, leaf: str) -> bool:
    strict = a.output_strictness in {"template", "json_schema", "dsl_grammar"}
    return strict and leaf in SFT_LEAVES | {"distillation", "grpo_rlvr"}


def _light_tuning_helps(a: Answers, leaf: str) -> bool:
    return leaf == "structured_output" and bool(p.has_demonstrations(a))


def _shown_first(a: Answers, leaf: str) -> bool:
    return leaf in PREFERENCE_LEAVES and p.has_demonstrations(a) is not False


def _prompt_unmeasured(a: Answers, leaf: str) -> bool:
    return leaf in CONTEXT_LEAVES and a.prompt_success is None and a.retrieval_in_place is not True


def _rows_missing(a: Answers, leaf: str) -> bool:
    if leaf == "rag_ft":
        return not a.n_labelled
    trained = leaf in SFT_LEAVES and (a.n_labelled is None or bool(p.too_few(a)))
    return trained or (
        leaf in {"few_shot", "prompt_engineering"} and bool(p.too_few(a)) and bool(a.lacks_style_format)
    )


def _practice_after(a: Answers, leaf: str) -> bool:
    return leaf == "distillation" and a.verifier == "programmatic" and not p.never_right(a)


COMPANIONS: Final = (
    Companion("build_eval", "companion", "before", lambda a, leaf: bool(p.few_test_items(a)) and leaf != "build_eval",
              N_("Twenty real items with a pass/fail rule, or nobody can say whether it helped.")),
    Companion("few_shot", "baseline", "before", _trains,
              N_("The prompt with examples is what training has to beat.")),
    Companion("prompt_engineering", "baseline", "before", _prompt_unmeasured,
              N_("Measure the plain prompt first: it may know more than you think.")),
    Companion("get_data", "companion", "before", _rows_missing,
              N_("Collect examples to the minimum of the task, and check them.")),
    Companion("structured_output", "companion", "before", _constraint_helps,
              N_("A template or grammar guarantees the form; only the rest has to be learned.")),
    Companion("rag", "baseline", "before",
              lambda a, leaf: leaf in WEIGHT_LEAVES and a.retrieval_possible is not False,
              N_("Retrieval is the baseline that trained-in knowledge has to beat.")),
    Companion("rag", "companion", "before", lambda a, leaf: leaf == "rag_ft",
              N_("Retrieval stays; the model learns to use it.")),
    Companion(_update, "companion", "before", _shown_first,
              N_("Demonstrations first, then preferences.")),
    Companion("few_shot", "companion", "after", lambda a, leaf: leaf == "rag" and bool(p.examples_fix_generator(a)),
              N_("Examples in the prompt mend what the model does with the passages.")),
    Companion("rag_ft", "companion", "after", lambda a, leaf: leaf == "rag" and bool(a.lacks_style_format),
              N_("If style is still missing with the right passages: light tuning on retrieval-style inputs.")),
    Companion("grpo_rlvr", "companion", "after", _practice_after,
              N_("Practice with the checker once the small model succeeds now and then.")),
    Companion(_update, "companion", "after", _light_tuning_helps,
              N_("If rules of meaning still fail: light tuning on the examples.")),
)  # fmt: skip


def plan(a: Answers, leaf: str, why: str) -> tuple[Stage, ...]:
    """Order the stages: baselines and preparations, the primary leaf, what may follow."""
    before = _companions(a, leaf, "before")
    after = _companions(a, leaf, "after")
    rows = [*before, (leaf, "primary", why), *after]
    return tuple(
        Stage(n, name, role, reason, attachments(name, a)) for n, (name, role, reason) in enumerate(rows, 1)
    )


def _companions(a: Answers, leaf: str, place: Place) -> list[tuple[str, str, str]]:
    found: dict[str, tuple[str, str, str]] = {}
    for companion in COMPANIONS:
        if companion.place == place and companion.when(a, leaf):
            name = companion.leaf if isinstance(companion.leaf, str) else companion.leaf(a)
            if name != leaf and name not in found and struck(name, a) is None:
                found[name] = (name, companion.role, companion.why)
    return list(found.values())


def attachments(leaf: str, a: Answers) -> tuple[str, ...]:
    """What a stage must contain; a safety check is left out only where the base is known not to be aligned."""
    codes = LEAVES[leaf].attachments
    if a.starts_from_aligned is False and not a.needs_safety_alignment:
        codes = tuple(code for code in codes if code != "safety_evaluation")
    return tuple(code for code in codes if code in ATTACHMENTS)


STOP_PROMPT: Final = N_(
    "Stop when the prompt reaches the target on 50 held-out items, or when three rounds bring nothing."
)
STOP_CONTEXT: Final = N_(
    "If the right passage is found in 90 % of cases and answers are still wrong, the model is the problem, not retrieval."
)
STOP_TRAIN: Final = N_(
    "If the tuned model does not beat the strong prompt by 5 points on 100 held-out items, go back to the prompt."
)
STOP_EARLY: Final = N_("Come back as soon as the missing piece is there; do not train before.")


def stop_rule(leaf: str) -> str:
    """What would end the attempt."""
    if leaf in PROMPT_LEAVES:
        return STOP_PROMPT
    if leaf in TRAINING_LEAVES:
        return STOP_TRAIN
    return STOP_CONTEXT if leaf in CONTEXT_LEAVES else STOP_EARLY
