"""What we believe of a fact that nobody told us, given those that somebody did: one fact often says much about another."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

from advisor.decide import predicates as p
from advisor.decide.answers import FACTS, Answers, Prior, Value, said
from advisor.decide.predicates import Test


@dataclass(frozen=True, slots=True)
class Belief:
    """What takes the place of the prior of `fact` while `when` is true (a judgement: docs/adr/0006)."""

    fact: str
    when: Test
    prior: Prior


def _yes(chance: float) -> Prior:
    return ((True, chance), (False, round(1 - chance, 6)))


def _knowledge(when: Test, chance: float) -> tuple[Belief, Belief]:
    """That knowledge is missing, and that the right passage mends it, which is how one finds out."""
    mends = ((0.9, chance), (0.3, round(1 - chance, 6)))
    return Belief("lacks_knowledge", when, _yes(chance)), Belief("oracle_context_success", when, mends)


def _says(fact: str, *values: Value) -> Test:
    def says(a: Answers) -> bool | None:
        value = getattr(a, fact)
        return None if value is None else value in values

    says.__doc__ = f"{fact} is {' or '.join(map(said, values))}."
    return says


def quality_is_fine(a: Answers) -> bool | None:
    """Quality is fine, and price or speed is the problem."""
    return a.optimise_cost_latency


def something_is_missing(a: Answers) -> bool:
    """Somebody says what is missing: form, skill, or facts."""
    return bool(a.lacks_style_format or a.lacks_skill or a.lacks_knowledge)


def prompt_was_worked_on(a: Answers) -> bool:
    """Something is missing although the prompt has examples, or labels enough to train on were collected since."""
    tried = a.prompt_effort in {"few_shot", "optimised"} or p.has_demonstrations(a)
    return something_is_missing(a) and bool(tried)


def sometimes_succeeds(a: Answers) -> bool:
    """A first answer is right now and then, so that one of many is right more often."""
    return max(a.student_success or 0.0, a.prompt_success or 0.0) > p.RARELY


def words_alone(a: Answers) -> bool:
    """The task is prose, and nobody has spoken of a schema."""
    return a.task_type in {
        "style_generation",
        "summarisation",
        "translation",
        "dialogue_open",
        "dialogue_task",
    }


def request_brings_its_facts(a: Answers) -> bool:
    """The task works on a text or a problem that stands in the request."""
    return a.task_type in {
        "classification", "extraction", "correction", "translation", "summarisation", "reasoning_verifiable",
        "qa_given_context", "style_generation", "structured_output",
    }  # fmt: skip


def form_is_plain(a: Answers) -> bool:
    """The answer is a class, a choice or a result: its form is hardly ever the problem."""
    return a.task_type in {"classification", "qa_multiple_choice", "reasoning_verifiable"}


def prompt_falls_short(a: Answers) -> bool:
    """The prompt was measured, and it is right in fewer than nine of ten cases."""
    return a.prompt_success is not None and a.prompt_success < p.NEARLY


BELIEFS: Final = (
    # "The content is right but the form is not" and "the reasoning is wrong although the facts are there" say it.
    Belief("oracle_context_success", p.no(p.lacks_knowledge), ((0.3, 1.0),)),
    *_knowledge(p.lacks_knowledge, 0.8),
    *_knowledge(quality_is_fine, 0.05),
    *_knowledge(p.facts_stand_elsewhere, 0.9),
    *_knowledge(p.lacks_style, 0.15),
    *_knowledge(p.lacks_skill, 0.15),
    *_knowledge(request_brings_its_facts, 0.2),
    Belief("lacks_style_format", quality_is_fine, _yes(0.05)),
    Belief("lacks_style_format", p.lacks_skill, _yes(0.25)),
    Belief("lacks_style_format", form_is_plain, _yes(0.15)),
    Belief("lacks_style_format", p.lacks_knowledge, _yes(0.3)),
    Belief("lacks_skill", quality_is_fine, _yes(0.03)),
    Belief("lacks_skill", p.lacks_style, _yes(0.1)),
    Belief("optimise_cost_latency", something_is_missing, _yes(0.05)),
    # Whoever says that something is missing is below the target; whoever says that only the price is wrong is not.
    Belief("prompt_success", quality_is_fine, ((0.6, 0.1), (0.97, 0.9))),
    Belief("prompt_success", _says("prompt_can_fix", True), ((0.6, 0.15), (0.97, 0.85))),
    Belief("prompt_success", _says("prompt_can_fix", False), ((0.1, 0.12), (0.6, 0.86), (0.97, 0.02))),
    Belief("prompt_success", p.lacks_knowledge, ((0.1, 0.35), (0.6, 0.6), (0.97, 0.05))),
    Belief("prompt_success", something_is_missing, ((0.1, 0.1), (0.6, 0.82), (0.97, 0.08))),
    Belief("prompt_success", p.has_demonstrations, ((0.1, 0.1), (0.6, 0.75), (0.97, 0.15))),
    Belief("prompt_can_fix", quality_is_fine, _yes(0.9)),
    Belief("prompt_can_fix", p.lacks_knowledge, _yes(0.1)),
    Belief("prompt_can_fix", prompt_was_worked_on, _yes(0.15)),
    Belief("prompt_can_fix", prompt_falls_short, _yes(0.2)),
    # A program that can check answers comes with the kind of task.
    Belief("verifier", _says("task_type", "reasoning_verifiable", "code_dsl", "tool_use"),
           (("none", 0.15), ("llm_judge", 0.15), ("programmatic", 0.7))),
    Belief("verifier", words_alone, (("none", 0.55), ("llm_judge", 0.4), ("programmatic", 0.05))),
    Belief("pass_at_k", sometimes_succeeds, ((0.0, 0.02), (0.7, 0.93), (1.0, 0.05))),
    Belief("output_strictness", words_alone,
           (("free", 0.85), ("template", 0.1), ("json_schema", 0.02), ("semantic_rules", 0.03))),
    Belief("output_strictness", _says("task_type", "code_dsl"),
           (("free", 0.3), ("dsl_grammar", 0.55), ("json_schema", 0.05), ("semantic_rules", 0.1))),
    # Experts who wrote every label mostly agree; labels that some checked are sometimes bad.
    Belief("label_agreement", _says("label_quality", "gold"), (("high", 0.93), ("low", 0.07))),
    Belief("label_quality", _says("label_agreement", "high"), (("gold", 0.55), ("mixed", 0.42), ("noisy", 0.03))),
    Belief("style_stable", p.has_demonstrations, _yes(0.9)),
    Belief("n_tasks", _says("task_type", "multi_task"), ((1, 0.15), (5, 0.85))),
    Belief("retrieval_possible", _says("retrieval_in_place", True), _yes(1.0)),
    Belief("retrieval_in_place", _says("rag_tried", True), _yes(0.8)),
    Belief("unlabelled_tokens", p.is_far, ((0, 0.3), (10_000_000, 0.3), (1_000_000_000, 0.4))),
)  # fmt: skip
"""The first that holds counts; where none does, the prior of the fact (docs/adr/0003)."""

_OF: Final[Mapping[str, tuple[Belief, ...]]] = MappingProxyType(
    {name: tuple(belief for belief in BELIEFS if belief.fact == name) for name in FACTS}
)


def prior(fact: str, a: object) -> Prior:
    """What we believe of `fact`, given what is known; empty where we have no idea.

    Args:
        fact: A fact of the vocabulary that is not known.
        a: Answers, or whatever has the facts as attributes.
    """
    known = cast(Answers, a)
    found = next((belief.prior for belief in _OF[fact] if belief.when(known)), None)
    return FACTS[fact].prior if found is None else found
