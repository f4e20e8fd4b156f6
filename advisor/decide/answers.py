"""What can be known of a task: the vocabulary of facts, as data, and the answers given so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from math import isfinite
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from advisor.errors import BadValue, UnknownName
from recipes.errors import Failure, Problem, RecipeError
from recipes.words import N_

Value = str | int | float | bool
"""What an answer holds: True and False for yes and no, a choice, a number, a text."""
Kind = Literal["yes_no", "choice", "share", "count", "number", "text", "date"]
Origin = Literal["person", "flag", "file", "data", "hardware", "detected", "report"]
"""Where a value came from: a person said it (on a screen, as a flag, in a file), `data` was counted, `hardware` stands
in the catalogue, `detected` is what this computer has, `report` was measured."""

Change = Literal["static", "yearly", "monthly", "weekly", "daily", "realtime", "often"]
Corpus = Literal["huge", "not_huge"]
Recall = Literal["good", "poor"]
RagFailure = Literal[
    "generator_misled_by_distractors",
    "generator_wrong_with_right_context",
    "does_not_abstain",
    "retrieval_miss",
]
Effort = Literal["none", "zero_shot", "few_shot", "optimised"]
Gain = Literal["none", "small", "large"]
Strength = Literal["weak", "strong"]
Task = Literal[
    "qa_over_docs", "qa_given_context", "qa_multiple_choice", "classification", "extraction", "correction",
    "style_generation", "structured_output", "code_dsl", "translation", "summarisation", "reasoning_verifiable",
    "dialogue_open", "dialogue_task", "tool_use", "multi_task",
]  # fmt: skip
Strictness = Literal["free", "template", "json_schema", "dsl_grammar", "semantic_rules"]
DomainShift = Literal["none", "moderate", "large"]
LanguageShift = Literal["none", "supported", "low_resource"]
Quality = Literal["gold", "mixed", "noisy"]
HighLow = Literal["high", "low"]
Verifier = Literal["none", "llm_judge", "programmatic"]
Teacher = Literal["no", "yes_licensed", "yes_restricted"]
Latency = Literal["none", "tight"]
Volume = Literal["low", "medium", "high"]
Privacy = Literal["cloud_ok", "vpc_only", "on_prem", "offline_device"]
Budget = Literal["small", "large"]
Team = Literal["none", "api", "hf", "distributed"]
Provider = Literal["openai", "aws", "google", "azure", "other"]
Iteration = Literal["seconds", "fast", "hours", "days"]

Prior = tuple[tuple[Value, float], ...]
"""Values and their weights, which sum to 1; empty where we have no idea, and then the fact stays unknown."""

KNOWS, LOOKS_UP, MEASURES = 1, 10, 20
"""Minutes to learn a fact by effort: the person knows it, looks it up, measures it (10-30 minutes)."""
LARGEST_COUNT: Final = 2**53


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact of the vocabulary: what it may be, which question tells it, what that costs.

    `group` is the question of the reference page (F01-F24), `means` a message id, `prior` our belief while it
    is unknown (a judgement: docs/adr/0003).
    """

    name: str
    kind: Kind
    group: str
    minutes: int
    means: str
    choices: tuple[str, ...] = ()
    prior: Prior = ()

    @property
    def allowed(self) -> str:
        """The domain, as a person would type it."""
        match self.kind:
            case "yes_no":
                return "yes, no, unknown"
            case "choice":
                return ", ".join((*self.choices, "unknown"))
            case "share":
                return "0..1, unknown"
            case "count":
                return "0, 1, 2, ..., unknown"
            case "number":
                return "0.., unknown"
            case "date":
                return "YYYY-MM-DD, unknown"
            case "text":
                return "text, unknown"


def _yes_no(name: str, group: str, minutes: int, means: str, yes: float | None = None) -> Fact:
    prior: Prior = () if yes is None else ((True, yes), (False, round(1 - yes, 6)))
    return Fact(name, "yes_no", group, minutes, means, prior=prior)


def _choice(name: str, group: str, minutes: int, means: str, of: object, prior: Prior = ()) -> Fact:
    return Fact(name, "choice", group, minutes, means, choices=get_args(of), prior=prior)


def _number(name: str, kind: Kind, group: str, minutes: int, means: str, prior: Prior = ()) -> Fact:
    return Fact(name, kind, group, minutes, means, prior=prior)


_LIST: Final = (
    # F01: the prompt
    _number("prompt_success", "share", "F01", MEASURES,
            N_("share of real test items that the best prompt on the best allowed model gets right"),
            ((0.1, 0.15), (0.6, 0.55), (0.97, 0.3))),
    _choice("prompt_effort", "F01", KNOWS, N_("how much was done for the prompt"), Effort,
            (("none", 0.2), ("zero_shot", 0.35), ("few_shot", 0.3), ("optimised", 0.15))),
    _number("target_success", "share", "F01", LOOKS_UP, N_("share of right answers that is needed")),
    _yes_no("prompt_can_fix", "F01", MEASURES, N_("a better prompt is enough"), 0.45),
    _number("cost_of_failure", "text", "F01", LOOKS_UP, N_("what a wrong answer costs")),
    _yes_no("human_fallback", "F01", KNOWS, N_("a person can take over")),
    # F02: the test set
    _number("eval_set_size", "count", "F02", LOOKS_UP, N_("number of real test items with a pass/fail rule"),
            ((0, 0.4), (10, 0.25), (50, 0.2), (200, 0.15))),
    # F03: knowledge
    _yes_no("lacks_knowledge", "F03", MEASURES, N_("the model does not know facts that the answers need"), 0.55),
    _number("oracle_context_success", "share", "F03", MEASURES,
            N_("share of right answers with the right passage pasted into the prompt"), ((0.9, 0.55), (0.3, 0.45))),
    # F04: style and form
    _yes_no("lacks_style_format", "F04", MEASURES, N_("the content is right but the form, tone or consistency is not"),
            0.45),
    _choice("fewshot_gain", "F04", MEASURES, N_("how much three to eight examples in the prompt help"), Gain,
            (("none", 0.3), ("small", 0.4), ("large", 0.3))),
    _yes_no("per_request_instructions", "F04", KNOWS, N_("the instructions differ from request to request"), 0.15),
    # F05: skill
    _yes_no("lacks_skill", "F05", MEASURES, N_("the reasoning is wrong although the facts are there"), 0.2),
    _number("student_success", "share", "F05", MEASURES, N_("share of right first answers of the model to be trained")),
    _number("pass_at_k", "share", "F05", MEASURES, N_("share of items where any of 8-16 samples is right"),
            ((0.0, 0.25), (0.5, 0.65), (1.0, 0.1))),
    _choice("verifier", "F05", KNOWS, N_("what can check an answer"), Verifier,
            (("none", 0.45), ("llm_judge", 0.3), ("programmatic", 0.25))),
    # F06: cost and speed
    _yes_no("optimise_cost_latency", "F06", LOOKS_UP, N_("quality is fine, price or speed is the problem"), 0.2),
    _choice("requests_per_day", "F06", LOOKS_UP, N_("volume of requests"), Volume,
            (("low", 0.4), ("medium", 0.35), ("high", 0.25))),
    _number("prompt_tokens", "count", "F06", LOOKS_UP, N_("length of the prompt in tokens")),
    _choice("latency", "F06", KNOWS, N_("how tight the time limit of an answer is"), Latency),
    _yes_no("cost_sensitive", "F06", KNOWS, N_("the price of each answer matters"), 0.4),
    _yes_no("prompt_cache", "F06", LOOKS_UP, N_("the serving system caches prompts"), 0.6),
    # F07: change
    _choice("knowledge_change", "F07", KNOWS, N_("how often the facts change"), Change,
            (("static", 0.25), ("yearly", 0.15), ("monthly", 0.3), ("daily", 0.2), ("realtime", 0.1))),
    # F08: size
    _choice("corpus", "F08", LOOKS_UP, N_("whether the text that holds the facts is huge"), Corpus,
            (("not_huge", 0.85), ("huge", 0.15))),
    _number("corpus_tokens", "count", "F08", LOOKS_UP, N_("tokens of text that hold the facts"),
            ((50_000, 0.3), (3_000_000, 0.55), (500_000_000, 0.15))),
    _number("context_window", "count", "F08", LOOKS_UP, N_("context window of the model in tokens")),
    _number("unlabelled_tokens", "count", "F08", LOOKS_UP, N_("tokens of raw domain text"),
            ((0, 0.6), (10_000_000, 0.3), (1_000_000_000, 0.1))),
    # F09: rights
    _yes_no("needs_citations", "F09", KNOWS, N_("answers must show their sources"), 0.4),
    _yes_no("per_user_access_control", "F09", KNOWS, N_("users have different rights to the facts"), 0.2),
    _yes_no("erasure_required", "F09", KNOWS, N_("facts must be deletable on demand"), 0.2),
    # F10, F11: retrieval
    _yes_no("retrieval_possible", "F10", KNOWS, N_("documents can be read when answering"), 0.9),
    _yes_no("retrieval_in_place", "F11", KNOWS, N_("retrieval is already built"), 0.25),
    _choice("retrieval_recall", "F11", MEASURES, N_("whether the right passage is among those retrieved"), Recall,
            (("good", 0.5), ("poor", 0.5))),
    _choice("rag_failure", "F11", MEASURES, N_("how retrieval-based answers fail"), RagFailure),
    _yes_no("rag_tried", "F11", KNOWS, N_("retrieval was tried")),
    _yes_no("sft_tried", "F11", KNOWS, N_("fine-tuning was tried")),
    # F12: labelled data
    _number("n_labelled", "count", "F12", LOOKS_UP, N_("number of input and ideal-output pairs"),
            ((0, 0.3), (150, 0.4), (2_000, 0.22), (60_000, 0.08))),
    _choice("label_quality", "F12", LOOKS_UP, N_("who checked the labels"), Quality,
            (("gold", 0.35), ("mixed", 0.5), ("noisy", 0.15))),
    _choice("label_agreement", "F12", MEASURES, N_("whether experts agree on the labels"), HighLow,
            (("high", 0.75), ("low", 0.25))),
    _number("n_labels", "count", "F12", KNOWS, N_("number of classes")),
    _choice("train_unknown_fact_share", "F12", MEASURES,
            N_("how much of the training data states facts that the model does not know"), HighLow),
    # F13: feedback
    _number("n_pref_pairs", "count", "F13", KNOWS, N_("number of better/worse pairs"), ((0, 0.95), (3_000, 0.05))),
    _number("n_unpaired_feedback", "count", "F13", KNOWS, N_("number of single thumbs up or down"),
            ((0, 0.95), (3_000, 0.05))),
    _yes_no("human_raters", "F13", KNOWS, N_("people can rate answers")),
    _yes_no("online_feedback", "F13", KNOWS, N_("new answers are rated while training")),
    # F14: teacher
    _choice("teacher_available", "F14", LOOKS_UP, N_("whether a stronger model does it well and may be copied"), Teacher,
            (("no", 0.25), ("yes_licensed", 0.5), ("yes_restricted", 0.25))),
    # F15, F16: the task and its output
    _choice("task_type", "F15", KNOWS, N_("kind of task"), Task,
            (("qa_over_docs", 0.25), ("classification", 0.2), ("style_generation", 0.15), ("dialogue_task", 0.25),
             ("code_dsl", 0.15))),
    _choice("output_strictness", "F16", KNOWS, N_("how strict the form of the output is"), Strictness,
            (("free", 0.6), ("template", 0.15), ("json_schema", 0.15), ("dsl_grammar", 0.05), ("semantic_rules", 0.05))),
    # F17: distance
    _choice("domain_shift", "F17", LOOKS_UP, N_("how far the domain is from what the base model saw"), DomainShift,
            (("none", 0.5), ("moderate", 0.35), ("large", 0.15))),
    _choice("language_shift", "F17", LOOKS_UP, N_("how well the base model covers the language"), LanguageShift,
            (("none", 0.8), ("supported", 0.15), ("low_resource", 0.05))),
    # F18: stability
    _yes_no("style_stable", "F18", KNOWS, N_("the wanted behaviour is settled"), 0.8),
    _choice("iteration", "F18", KNOWS, N_("how fast changes must ship"), Iteration,
            (("seconds", 0.07), ("fast", 0.23), ("hours", 0.35), ("days", 0.35))),
    # F19: safety
    _yes_no("needs_safety_alignment", "F19", KNOWS, N_("refusals, values, minors or moderation are the task"), 0.05),
    _yes_no("starts_from_aligned", "F19", LOOKS_UP, N_("the base model is already aligned")),
    # F20: many tasks
    _number("n_tasks", "count", "F20", KNOWS, N_("number of tasks on one model"), ((1, 0.9), (5, 0.1))),
    _number("n_tenants", "count", "F20", KNOWS, N_("number of customers on one model"), ((1, 0.93), (10, 0.07))),
    _yes_no("must_keep_general", "F20", KNOWS, N_("general skills must be kept")),
    _yes_no("must_follow_prompts", "F20", KNOWS, N_("the model must still follow prompts"), 0.9),
    # F21: where
    _choice("privacy", "F21", KNOWS, N_("where data and model may run"), Privacy,
            (("cloud_ok", 0.5), ("vpc_only", 0.2), ("on_prem", 0.2), ("offline_device", 0.1))),
    _choice("provider", "F21", KNOWS, N_("the provider of the model"), Provider),
    _yes_no("provider_ft_available", "F21", LOOKS_UP, N_("the provider's tuning is open to you"), 0.4),
    _yes_no("frontier_allowed", "F21", KNOWS, N_("the strongest models may be used"), 0.5),
    _number("date", "date", "F21", KNOWS, N_("today's date")),
    # F22: hardware and model
    _number("gpus", "count", "F22", KNOWS, N_("number of GPUs")),
    _number("vram_gb", "number", "F22", LOOKS_UP, N_("memory of one GPU in GB")),
    _number("model_params_b", "number", "F22", LOOKS_UP, N_("parameters of the model in billions")),
    _choice("model_strength", "F22", KNOWS, N_("how strong the model is for its kind"), Strength,
            (("weak", 0.4), ("strong", 0.6))),
    _number("seq_len", "count", "F22", LOOKS_UP, N_("training sequence length in tokens")),
    # F23: people and money
    _choice("team_skill", "F23", KNOWS, N_("what the team can operate"), Team,
            (("none", 0.2), ("api", 0.35), ("hf", 0.35), ("distributed", 0.1))),
    _choice("budget", "F23", KNOWS, N_("size of the budget"), Budget),
    _number("budget_usd", "count", "F23", KNOWS, N_("budget in US dollars")),
)  # fmt: skip

FACTS: Final[Mapping[str, Fact]] = MappingProxyType({fact.name: fact for fact in _LIST})
"""The vocabulary: every fact that the advice can read, by name."""


@dataclass(frozen=True)
class Answers:
    """What we know of the task. None means unknown, never no.

    A rule that reads `a.fact` wonders about it where it is not known; `a.get("fact")` only takes notice of what was
    stated.

    Not slotted: `but` copies the instance dictionary, because counterfactuals make thousands of copies.
    """

    prompt_success: float | None = None
    prompt_effort: Effort | None = None
    target_success: float | None = None
    prompt_can_fix: bool | None = None
    cost_of_failure: str | None = None
    human_fallback: bool | None = None
    eval_set_size: int | None = None
    lacks_knowledge: bool | None = None
    oracle_context_success: float | None = None
    lacks_style_format: bool | None = None
    fewshot_gain: Gain | None = None
    per_request_instructions: bool | None = None
    lacks_skill: bool | None = None
    student_success: float | None = None
    pass_at_k: float | None = None
    verifier: Verifier | None = None
    optimise_cost_latency: bool | None = None
    requests_per_day: Volume | None = None
    prompt_tokens: int | None = None
    latency: Latency | None = None
    cost_sensitive: bool | None = None
    prompt_cache: bool | None = None
    knowledge_change: Change | None = None
    corpus: Corpus | None = None
    corpus_tokens: int | None = None
    context_window: int | None = None
    unlabelled_tokens: int | None = None
    needs_citations: bool | None = None
    per_user_access_control: bool | None = None
    erasure_required: bool | None = None
    retrieval_possible: bool | None = None
    retrieval_in_place: bool | None = None
    retrieval_recall: Recall | None = None
    rag_failure: RagFailure | None = None
    rag_tried: bool | None = None
    sft_tried: bool | None = None
    n_labelled: int | None = None
    label_quality: Quality | None = None
    label_agreement: HighLow | None = None
    n_labels: int | None = None
    train_unknown_fact_share: HighLow | None = None
    n_pref_pairs: int | None = None
    n_unpaired_feedback: int | None = None
    human_raters: bool | None = None
    online_feedback: bool | None = None
    teacher_available: Teacher | None = None
    task_type: Task | None = None
    output_strictness: Strictness | None = None
    domain_shift: DomainShift | None = None
    language_shift: LanguageShift | None = None
    style_stable: bool | None = None
    iteration: Iteration | None = None
    needs_safety_alignment: bool | None = None
    starts_from_aligned: bool | None = None
    n_tasks: int | None = None
    n_tenants: int | None = None
    must_keep_general: bool | None = None
    must_follow_prompts: bool | None = None
    privacy: Privacy | None = None
    provider: Provider | None = None
    provider_ft_available: bool | None = None
    frontier_allowed: bool | None = None
    date: str | None = None
    gpus: int | None = None
    vram_gb: float | None = None
    model_params_b: float | None = None
    model_strength: Strength | None = None
    seq_len: int | None = None
    team_skill: Team | None = None
    budget: Budget | None = None
    budget_usd: int | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False, repr=False)
    """Where each known fact came from."""

    def but(self, **changes: Value | None) -> Answers:
        """These answers with some facts changed; None makes a fact unknown again."""
        other = object.__new__(Answers)
        other.__dict__.update(self.__dict__)
        other.__dict__.update(changes)
        return other

    def known(self) -> dict[str, Value]:
        """The facts that are known, in the order of the vocabulary."""
        return {name: value for name in FACTS if (value := self.__dict__[name]) is not None}

    def get(self, fact: str) -> Value | None:
        """The value of a fact by name."""
        value: Value | None = self.__dict__[fact]
        return value


class FactsError(RecipeError):
    """Several facts that cannot be used; `problems` names every one."""

    code = "P0104"

    def __init__(self, where: str, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        Failure.__init__(
            self,
            N_("{count} facts cannot be used"),
            remedy=N_(
                "mend what is named above; `advisor recommend --vocabulary` lists every fact and its values"
            ),
            where=where,
            count=len(problems),
        )


class _NotInDomain(Exception):
    """A raw value that its fact cannot have; `parse` turns it into an error with the fact's name."""


@dataclass(frozen=True, slots=True)
class _Contradiction:
    """Two facts that cannot both be true, and the sentence that says so."""

    facts: tuple[str, str]
    holds: Any
    says: str


CONTRADICTIONS: Final = (
    _Contradiction(("n_labelled", "label_quality"), lambda n, _: n == 0,
                   N_("n_labelled=0 and label_quality={second}: there are no labels to be of that quality")),
    _Contradiction(("n_labelled", "label_agreement"), lambda n, _: n == 0,
                   N_("n_labelled=0 and label_agreement={second}: there are no labels to agree on")),
    _Contradiction(("retrieval_possible", "retrieval_in_place"), lambda can, built: built and not can,
                   N_("retrieval_possible=no and retrieval_in_place=yes: what is built is possible")),
    _Contradiction(("retrieval_in_place", "retrieval_recall"), lambda built, _: not built,
                   N_("retrieval_in_place=no and retrieval_recall={second}: nothing is retrieved yet")),
    _Contradiction(("student_success", "pass_at_k"), lambda one, many: many < one,
                   N_("pass_at_k={second} is below student_success={first}: many tries cannot do worse than one")),
    _Contradiction(("gpus", "vram_gb"), lambda gpus, vram: gpus == 0 and vram > 0,
                   N_("gpus=0 and vram_gb={second}: no GPU has no memory")),
)  # fmt: skip


_RULES_OF: Final = MappingProxyType(
    {name: tuple(rule for rule in CONTRADICTIONS if name in rule.facts) for name in FACTS}
)


def possible(known: Mapping[str, Value], fact: str, value: Value) -> bool:
    """Whether `fact` can have `value` beside what is known, without contradicting it."""
    return not any(_broken(rule, {**known, fact: value}) for rule in _RULES_OF[fact])


def parse(facts: Mapping[str, object], where: Origin = "person", *, source: str = "") -> Answers:
    """Check facts against the vocabulary and return them as answers.

    Args:
        facts: Fact name to value as a person, a file or a flag gives it ("yes", "0.9", 800, True).
        where: The origin recorded for every fact.
        source: What an error names as its place, such as a file name; else `where`.

    Raises:
        UnknownName: One fact that is not in the vocabulary.
        BadValue: One value outside its domain, or two facts that contradict each other.
        FactsError: Several of these; it names all of them.
    """
    values, failures = _read(facts)
    failures += list(_contradictions(values))
    if failures:
        raise _one_or_all(failures, source or where)
    known = {name: value for name, value in values.items() if value is not None}
    return Answers().but(**known, origins=MappingProxyType(dict.fromkeys(known, where)))  # type: ignore[arg-type]  # origins is no fact


def merge(*parts: Answers) -> Answers:
    """Lay answers over each other; the later ones win, fact by fact, and keep their origins.

    Raises:
        BadValue, FactsError: The parts together contradict each other.
    """
    known: dict[str, Value] = {}
    origins: dict[str, Origin] = {}
    for part in parts:
        known.update(part.known())
        origins.update(part.origins)
    if failures := list(_contradictions(known)):
        raise _one_or_all(failures, ", ".join(sorted(set(origins.values()))))
    return Answers().but(**known, origins=MappingProxyType(origins))  # type: ignore[arg-type]  # origins is no fact


def said(value: Value | None) -> str:
    """A value as a person types it: yes, no, unknown, a number, a word."""
    match value:
        case None:
            return "unknown"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _read(facts: Mapping[str, object]) -> tuple[dict[str, Value | None], list[Failure]]:
    values: dict[str, Value | None] = {}
    failures: list[Failure] = []
    for name, raw in facts.items():
        if name not in FACTS:
            failures.append(UnknownName(N_("fact"), name, FACTS, listing="advisor recommend --vocabulary"))
            continue
        try:
            values[name] = _value(FACTS[name], raw)
        except (_NotInDomain, ValueError, OverflowError):
            failures.append(_outside(FACTS[name], raw))
    return values, failures


def _value(fact: Fact, raw: object) -> Value | None:
    """Read one value; _NotInDomain, or what the conversion raises, where it is outside the domain."""
    if raw is None or (isinstance(raw, str) and raw.strip().casefold() == "unknown"):
        return None
    match fact.kind:
        case "yes_no":
            return _yes_or_no(raw)
        case "choice":
            word = raw.strip().casefold() if isinstance(raw, str) else ""
            if word not in fact.choices:
                raise _NotInDomain
            return word
        case "text":
            if not isinstance(raw, str) or not raw.strip():
                raise _NotInDomain
            return raw.strip()
        case "date":
            if not isinstance(raw, str):
                raise _NotInDomain
            return date.fromisoformat(raw.strip()).isoformat()
        case "share" | "count" | "number":
            return _figure(fact.kind, raw)


def _yes_or_no(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    known = {"yes": True, "true": True, "no": False, "false": False}
    if not isinstance(raw, str) or raw.strip().casefold() not in known:
        raise _NotInDomain
    return known[raw.strip().casefold()]


def _figure(kind: Kind, raw: object) -> int | float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        raise _NotInDomain
    number = float(raw)
    if not isfinite(number) or not 0 <= number <= (1 if kind == "share" else LARGEST_COUNT):
        raise _NotInDomain
    if kind != "count":
        return number
    if number != int(number):
        raise _NotInDomain
    return int(number)


def _outside(fact: Fact, raw: object) -> BadValue:
    return BadValue(
        N_("{fact}={value} is not a value of this fact"),
        remedy=N_("allowed: {allowed}"),
        fact=fact.name,
        value=str(raw)[:80],
        allowed=fact.allowed,
    )


def _contradictions(values: Mapping[str, Value | None]) -> Iterator[Failure]:
    for rule in CONTRADICTIONS:
        if _broken(rule, values):
            yield BadValue(
                rule.says,
                remedy=N_("leave out the one that is not so: {first_fact} or {second_fact}"),
                first=said(values[rule.facts[0]]),
                second=said(values[rule.facts[1]]),
                first_fact=rule.facts[0],
                second_fact=rule.facts[1],
            )


def _broken(rule: _Contradiction, values: Mapping[str, Value | None]) -> bool:
    first, second = (values.get(fact) for fact in rule.facts)
    return first is not None and second is not None and bool(rule.holds(first, second))


def _one_or_all(failures: list[Failure], where: str) -> Failure:
    if len(failures) == 1:
        failures[0].where = where
        return failures[0]
    return FactsError(where, tuple(_problem(failure) for failure in failures))


def _problem(failure: Failure) -> Problem:
    """A failure as one line of a longer list, its remedy in brackets."""
    both = f"{failure.problem.format(**failure.values)} ({failure.remedy.format(**failure.values)})"
    return Problem(both.replace("{", "{{").replace("}", "}}"))


def vocabulary() -> tuple[str, ...]:
    """The names of the facts that `Answers` can hold: equal to `FACTS`, which a test asserts."""
    return tuple(f.name for f in fields(Answers) if f.name != "origins")
