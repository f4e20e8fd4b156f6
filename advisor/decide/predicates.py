"""When an answer counts as yes: named three-valued functions. True, False, or None where it is not known.

The docstring of each predicate is the sentence that a person reads. Thresholds are ours unless a source is
named; the reasons stand in docs/adr/0001 (often, huge), 0002 (minimum data), 0004 (very low success) and 0006 (what
known facts say about unknown ones).
"""

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from advisor.decide.answers import FACTS, Answers, Strictness, Task

Test = Callable[[Answers], bool | None]

OFTEN: Final = frozenset({"monthly", "weekly", "daily", "realtime", "often"})
"""Rates of change at which weights are always behind (docs/adr/0001)."""
HUGE_TOKENS: Final = 125_000_000
"""About 500 MB of text; below it even synthetic continued pre-training needs heavy augmentation (docs/adr/0001)."""
FITS_TOKENS: Final = 200_000
"""A corpus of this size goes into a cached prompt whole (Anthropic, Contextual Retrieval)."""
FITS_SHARE: Final = 0.5
"""Part of the context window that a corpus may fill: quality falls towards the end of the window."""
RARELY: Final = 0.2
NEARLY: Final = 0.9
"""The 20 % and the 90 % of source document 003 (S-003-07)."""
SURELY_ENOUGH: Final = 0.99
"""Success that meets every target, also one that nobody named."""
SURELY_NOT_ENOUGH: Final = 0.5
"""Success below which no target is met, also where nobody named one."""
ORACLE_WORKS: Final = 0.7
ORACLE_FAILS: Final = 0.3
"""With the right passage in the prompt: from here it was knowledge; up to here it was not."""
SOLVED: Final = 0.95
"""A student this good has nothing left to gain from reinforcement."""
FEW_TEST_ITEMS: Final = 20
"""Test items below which no success rate means much (OpenAI, Optimizing LLM Accuracy)."""
MANY_LABELS: Final = 50
"""Classes from which a label space counts as large (Bertsch 2024: many-shot prompting)."""
ENCODER_LABELS: Final = 1_000
"""Classes up to which a small encoder is the plain choice ("up to hundreds")."""
AMPLE: Final = 50_000
"""Pairs from which full tuning can learn more than LoRA (Biderman 2024: 100K instructions)."""
LONG_PROMPT_TOKENS: Final = 2_000
"""A prompt that is expensive on every call."""
PAIRS_WORKABLE: Final = 1_000
UNPAIRED_WORKABLE: Final = 2_000
COMPARISONS_WORKABLE: Final = 10_000
RAFT_TOO_FEW: Final = 100
CPU_ONLY_GB: Final = 4.0
"""Less GPU memory than this trains no language model of use; a small encoder still goes on a CPU."""
CPU_MODEL_B: Final = 0.5
"""Parameters in billions up to which a model is trained on a CPU with LoRA in bearable time."""
SMALL_STUDENT_B: Final = 14.0
"""Parameters in billions up to which a student is small beside its teacher (DeepSeek-R1 distils 1.5-32B)."""
TYPICAL_PARAMS_B: Final = 8.0
"""The size assumed where none is stated: the usual base model of a first project."""

FULL_BYTES, LORA_BYTES, QLORA_BYTES, OVERHEAD_GB = 16.0, 2.0, 0.52, 4.0
"""Rules of thumb in bytes a parameter, and GB for adapter, head and activations; `advisor.estimate` has the exact
figures. Full: mixed-precision AdamW. LoRA: 16-bit weights. QLoRA: NF4 with double quantisation."""
TIGHT_SHARE: Final = 0.9

MINIMUM: Final = MappingProxyType(
    {
        "style_generation": 50, "summarisation": 50,
        "classification": 200, "qa_multiple_choice": 200,
        "extraction": 300, "correction": 300, "structured_output": 300,
        "code_dsl": 1_000, "tool_use": 1_000, "reasoning_verifiable": 1_000,
        "dialogue_open": 1_000, "dialogue_task": 1_000,
        "translation": 5_000,
        "qa_over_docs": 200, "qa_given_context": 200,
    }
)  # fmt: skip
"""Examples at which training becomes workable, by kind of task (docs/adr/0002)."""
TOO_FEW: Final = 50
MIXED_FACTOR: Final = 3
"""Mixed labels need two to five times as many examples."""
PROBABLY: Final = 1 / 3
"""Chance from which labels that nobody has counted are taken for enough, until somebody counts (docs/adr/0006)."""
BY_THE_DAY: Final = frozenset({"weekly", "daily", "realtime"})
"""Rates of change at which no model can know today's facts."""
LARGE_WINDOW: Final = 1_000_000
"""A window, in tokens, that takes some 2,500 pages: few collections of documents do not fit."""
GAIN_DIVISOR: Final = 2
"""Where three examples in the prompt help much, the behaviour is nearly there: half as many suffice."""


def minimum_examples(task: Task | None, style: bool | None, quality: str | None, gain: str | None) -> int:
    """The number of demonstrations from which training is workable."""
    known = MINIMUM.get(task) if task else None
    base = known or (MINIMUM["style_generation"] if style else MINIMUM["dialogue_open"])
    factor = MIXED_FACTOR if quality == "mixed" else 1
    return base * factor // (GAIN_DIVISOR if gain == "large" else 1)


# The five questions of the source tree


def lacks_knowledge(a: Answers) -> bool | None:
    """The model lacks knowledge."""
    if a.lacks_knowledge is not None:
        return a.lacks_knowledge
    if a.rag_failure is not None or (a.retrieval_in_place and a.retrieval_recall is not None):
        return True  # retrieval is in use, so the facts are known to be outside the model
    if a.get("train_unknown_fact_share") == "high":
        return True  # that is what the fact says
    oracle = a.oracle_context_success
    if oracle is None or ORACLE_FAILS < oracle < ORACLE_WORKS:
        return None
    return oracle >= ORACLE_WORKS and (a.prompt_success is None or a.prompt_success < oracle)


def changes_often(a: Answers) -> bool | None:
    """The facts change monthly or faster."""
    return None if a.knowledge_change is None else a.knowledge_change in OFTEN


def is_huge(a: Answers) -> bool | None:
    """The text is huge: 125 million tokens or more."""
    if a.corpus is not None:
        return a.corpus == "huge"
    sizes = [size for size in (a.corpus_tokens, a.unlabelled_tokens) if size is not None]
    if not sizes:
        return None
    return max(sizes) >= HUGE_TOKENS


def lacks_style(a: Answers) -> bool | None:
    """The content is right, but style or form is not."""
    return a.lacks_style_format


def facts_stand_elsewhere(a: Answers) -> bool | None:
    """The answers stand in documents, are new by the day, or are for some eyes only; or a whole field is missing."""
    # Whoever counts the text that holds the facts, or says how they change, has facts outside the model: what is
    # stated tells something here, and what is not is nothing to wonder about.
    if a.task_type == "qa_over_docs" or a.get("knowledge_change") in BY_THE_DAY:
        return True
    if a.get("per_user_access_control") or a.get("corpus_tokens"):
        return True
    return True if a.get("unlabelled_tokens") and field_cannot_be_looked_up(a) else None


def prompt_fixes_it(a: Answers) -> bool | None:
    """A better prompt is enough."""
    if a.prompt_can_fix is not None:
        return a.prompt_can_fix
    if a.prompt_success is None:
        return None
    if a.prompt_success >= (a.target_success if a.target_success is not None else SURELY_ENOUGH):
        return True
    if a.target_success is None and a.prompt_success >= SURELY_NOT_ENOUGH:
        return None
    return None if a.prompt_effort not in {"few_shot", "optimised"} else False


def no(test: Test) -> Test:
    """The opposite of a predicate; unknown stays unknown."""

    def opposite(a: Answers) -> bool | None:
        answer = test(a)
        return None if answer is None else not answer

    opposite.__doc__ = f"Not so: {test.__doc__}"
    opposite.__name__ = f"no_{test.__name__}"
    return opposite


def always(_: Answers) -> bool | None:
    """In every other case."""
    return True


# Gates


def prompt_is_enough(a: Answers) -> bool | None:
    """The prompt reaches the target."""
    if a.prompt_success is None:
        return True if a.prompt_can_fix and not a.lacks_knowledge else None
    if a.target_success is not None:
        return a.prompt_success >= a.target_success
    if a.prompt_success >= SURELY_ENOUGH:
        return True
    return True if a.prompt_can_fix and not a.lacks_knowledge else None


def wants_cheaper(a: Answers) -> bool | None:
    """Price or speed is the problem."""
    if a.optimise_cost_latency is not None:
        return a.optimise_cost_latency
    if a.requests_per_day == "high" and (a.cost_sensitive or a.latency == "tight"):
        return True
    if a.cost_sensitive:
        return a.requests_per_day != "low"
    return False if a.cost_sensitive is False and a.latency != "tight" else None


def enough_but_dear(a: Answers) -> bool | None:
    """The prompt reaches the target, but price or speed is the problem."""
    enough = prompt_is_enough(a)
    return wants_cheaper(a) if enough else enough


def enough_by_examples(a: Answers) -> bool | None:
    """The prompt with examples reaches the target."""
    enough = prompt_is_enough(a)
    if not enough:
        return enough
    return a.prompt_effort == "few_shot" or bool(a.lacks_style_format and a.prompt_effort is None)


def rarely_right(a: Answers) -> bool | None:
    """The best prompt is right in 20 % of cases or fewer."""
    return None if a.prompt_success is None else a.prompt_success <= RARELY


def nearly_there(a: Answers) -> bool | None:
    """The prompt is right nine times in ten, and that is still below the target."""
    if a.prompt_success is None or a.target_success is None:
        return None
    return NEARLY <= a.prompt_success < a.target_success


def last_tenth_not_worth_it(a: Answers) -> bool | None:
    """Nine in ten are right, there are few requests, and a person catches the failures."""
    near = nearly_there(a)
    if not near:
        return near
    if a.requests_per_day is None or a.human_fallback is None:
        return None
    return a.requests_per_day == "low" and a.human_fallback


def few_test_items(a: Answers) -> bool | None:
    """There are fewer than 20 test items."""
    return None if a.eval_set_size is None else a.eval_set_size < FEW_TEST_ITEMS


def has_other_lever(a: Answers) -> bool:
    """Another lever than knowledge or style is known: skill, safety, cost, many tasks, feedback, or labels."""
    return bool(
        a.lacks_skill
        or a.needs_safety_alignment
        or wants_cheaper(a)
        or serves_many(a)
        or has_pairs(a)
        or has_unpaired(a)
        or can_be_checked(a)
        or has_demonstrations(a)
    )


def nothing_diagnosed(a: Answers) -> bool:
    """No diagnosis is known yet."""
    if a.lacks_style_format:
        return False
    knowledge = lacks_knowledge(a)
    if knowledge or (knowledge is None and facts_stand_elsewhere(a)):
        return False
    ruled_out = knowledge is False and a.lacks_style_format is False
    return not ruled_out and not has_other_lever(a)


def blind_and_undiagnosed(a: Answers) -> bool | None:
    """There are fewer than 20 test items, and no diagnosis is known."""
    if not nothing_diagnosed(a) or prompt_is_enough(a):
        return False
    return few_test_items(a)


def countable_and_undiagnosed(a: Answers) -> bool | None:
    """A prompt with examples is there, a few test items as well, and nobody has counted."""
    if not a.get("eval_set_size") or a.get("prompt_success") is not None or not nothing_diagnosed(a):
        return False
    if a.prompt_effort not in {"few_shot", "optimised"}:
        return None if a.prompt_effort is None else False
    return few_test_items(a)


def untried_and_undiagnosed(a: Answers) -> bool | None:
    """No prompt with examples was tried yet, and no diagnosis is known."""
    if a.get("prompt_effort") in {"few_shot", "optimised"} or not nothing_diagnosed(a):
        return False
    return None if a.prompt_effort is None else True


def must_ship_in_seconds(a: Answers) -> bool | None:
    """Changes must ship within seconds, and no diagnosis is known."""
    if a.get("iteration") not in {None, "seconds"} or not nothing_diagnosed(a):
        return False
    return None if a.iteration is None else True


def unmeasured_and_undiagnosed(a: Answers) -> bool | None:
    """The prompt was not measured, and no diagnosis is known yet."""
    return a.get("prompt_success") is None and nothing_diagnosed(a) and a.prompt_success is None


def strictness(a: Answers) -> Strictness | None:
    """How strict the output is; a task that is named after its fixed form has one."""
    if a.output_strictness is None and a.task_type == "structured_output":
        return "json_schema"
    return a.output_strictness


# Very low success


def only_syntax_fails(a: Answers) -> bool | None:
    """Only the syntax of the output is wrong."""
    form = strictness(a)
    if form is None:
        return None
    if a.lacks_skill or a.lacks_knowledge:
        return False
    return form in {"json_schema", "dsl_grammar"} and bool(a.lacks_style_format)


def context_makes_it_work(a: Answers) -> bool | None:
    """With the right passage in the prompt it succeeds."""
    if a.oracle_context_success is not None:
        return a.oracle_context_success >= ORACLE_WORKS
    return a.lacks_knowledge


def only_style_fails(a: Answers) -> bool | None:
    """The content is known to be right; only a settled style fails, and enough clean examples show it."""
    facts = (a.lacks_knowledge, a.lacks_style_format, a.style_stable, a.label_quality)
    if None in facts:
        return None
    if a.lacks_knowledge or not a.lacks_style_format or not a.style_stable or a.label_quality != "gold":
        return False
    return has_demonstrations(a)


def own_taxonomy(a: Answers) -> bool | None:
    """It is a classification of our own, experts agree, and there are enough labels."""
    if a.task_type is None or a.label_agreement is None:
        return None
    return a.task_type == "classification" and a.label_agreement == "high" and bool(has_demonstrations(a))


def sometimes_right_and_checkable(a: Answers) -> bool | None:
    """Some samples succeed, and a program can check them."""
    if a.verifier is None or a.pass_at_k is None:
        return None
    return a.verifier == "programmatic" and a.pass_at_k > 0


def has_teacher(a: Answers) -> bool | None:
    """A stronger model does it well, and its licence allows training on its answers."""
    return None if a.teacher_available is None else a.teacher_available == "yes_licensed"


def far_with_text(a: Answers) -> bool | None:
    """The language or the field itself is missing, and there are 125 million tokens of it."""
    far = is_far(a)
    if not far:
        return far
    return None if a.unlabelled_tokens is None else a.unlabelled_tokens >= HUGE_TOKENS


def is_far(a: Answers) -> bool | None:
    """The domain or the language is far from what the base model saw."""
    if a.domain_shift == "large" or a.language_shift == "low_resource":
        return True
    return None if a.domain_shift is None and a.language_shift is None else False


# Knowledge in context


def cannot_retrieve(a: Answers) -> bool | None:
    """Nothing can be retrieved when answering."""
    return None if a.retrieval_possible is None else not a.retrieval_possible


def locked(a: Answers) -> bool:
    """Facts must never go into weights: rights, deletion or citations forbid it."""
    return bool(a.per_user_access_control or a.erasure_required or a.needs_citations)


def rights_differ(a: Answers) -> bool | None:
    """Users have different rights to the facts."""
    return a.per_user_access_control


def must_cite_or_erase(a: Answers) -> bool | None:
    """Answers must show sources, or facts must be deletable."""
    if a.needs_citations or a.erasure_required:
        return True
    return None if a.needs_citations is None or a.erasure_required is None else False


def retrieval_misses(a: Answers) -> bool | None:
    """Retrieval does not find the right passage."""
    if a.rag_failure == "retrieval_miss":
        return True
    return None if a.retrieval_recall is None else a.retrieval_recall == "poor"


def generator_fails(a: Answers) -> bool | None:
    """The right passage is found, and the answer is wrong all the same."""
    if a.rag_failure is not None:
        return a.rag_failure != "retrieval_miss"
    if a.retrieval_recall is None or a.oracle_context_success is None:
        return None
    return a.retrieval_recall == "good" and a.oracle_context_success < ORACLE_WORKS


def examples_fix_generator(a: Answers) -> bool | None:
    """The right passage is found, the answer is wrong, and a few examples mend it."""
    fails = generator_fails(a)
    if not fails:
        return fails
    return None if a.fewshot_gain is None else a.fewshot_gain == "large"


def stronger_generator_allowed(a: Answers) -> bool | None:
    """The right passage is found, the answer is wrong, and a stronger model may be used."""
    fails = generator_fails(a)
    if not fails:
        return fails
    if a.model_strength == "strong":
        return False
    return a.frontier_allowed


def generator_can_be_trained(a: Answers) -> bool | None:
    """The right passage is found, the answer is wrong, and retrieval-style examples exist or can be built."""
    fails = generator_fails(a)
    if not fails:
        return fails
    return a.n_labelled is None or a.n_labelled == 0 or a.n_labelled >= RAFT_TOO_FEW


def needs_live_values(a: Answers) -> bool | None:
    """The values change by the minute."""
    return None if a.knowledge_change is None else a.knowledge_change == "realtime"


def fits_the_window(a: Answers) -> bool | None:
    """The whole text fits into the context."""
    if a.corpus_tokens is None or a.context_window is None:
        return None if a.corpus_tokens is None or a.corpus_tokens <= FITS_TOKENS else False
    return a.corpus_tokens <= min(FITS_TOKENS, FITS_SHARE * a.context_window)


def reads_weakly(a: Answers) -> bool | None:
    """The model is weak, or small where nobody has said how strong it is: long contexts are not its strength."""
    if a.model_strength is not None:
        return a.model_strength == "weak"
    return None if a.model_params_b is None else a.model_params_b <= SMALL_STUDENT_B


def window_is_dear(a: Answers) -> bool | None:
    """The whole text would fit, but the model is weak, or the volume is high and nothing is cached."""
    fits = fits_the_window(a)
    if not fits:
        return fits
    if reads_weakly(a) or a.rag_failure == "does_not_abstain":
        return True
    return (a.requests_per_day == "high" or bool(a.cost_sensitive)) and not a.prompt_cache


def window_is_best(a: Answers) -> bool | None:
    """The whole text fits into the context of a strong model, at a bearable price."""
    fits = fits_the_window(a)
    return not window_is_dear(a) if fits else fits


def window_may_be_best(a: Answers) -> bool | None:
    """Nobody has counted the text; the window is very large, the model strong, and neither price nor time matters."""
    if a.corpus_tokens is not None:
        return False
    wanted = (a.context_window, a.model_strength, a.cost_sensitive, a.latency)
    if None in wanted:
        return None
    strong_and_wide = (a.context_window or 0) >= LARGE_WINDOW and a.model_strength == "strong"
    costs_nothing = not a.cost_sensitive and a.latency == "none" and a.requests_per_day != "high"
    return strong_and_wide and costs_nothing and not changes_often(a) and not is_huge(a) and not locked(a)


def style_is_missing_too(a: Answers) -> bool | None:
    """Knowledge and style are both missing."""
    return a.lacks_style_format


def field_cannot_be_looked_up(a: Answers) -> bool | None:
    """The language or the field itself is missing, there is much text of it, and the facts are not known to change."""
    far = far_with_text(a)
    if not far:
        return far
    return not changes_often(a) and not locked(a) and can_pretrain(a) is not False


# Knowledge in weights


def can_pretrain(a: Answers) -> bool | None:
    """The team and the budget can carry continued pre-training."""
    if a.team_skill in {"none", "api"} or a.budget == "small" or a.gpus == 0:
        return False
    return None if a.team_skill is None else True


def fits_on_device(a: Answers) -> bool | None:
    """Nothing can be retrieved, but the whole text fits a cached prompt on the device."""
    cut_off = cannot_retrieve(a)
    return fits_the_window(a) if cut_off else cut_off


def huge_and_able(a: Answers) -> bool | None:
    """There is a huge text, and nothing known speaks against training on it."""
    huge = is_huge(a)
    if not huge:
        return huge
    return can_pretrain(a) is not False


def huge_and_prompts_do_not_matter(a: Answers) -> bool | None:
    """There is a huge text, and the model need not follow prompts."""
    able = huge_and_able(a)
    if not able:
        return able
    return None if a.must_follow_prompts is None else not a.must_follow_prompts


def can_be_rewritten(a: Answers) -> bool | None:
    """The text is static and cannot be retrieved, and a licensed strong model can rewrite it."""
    if a.teacher_available is None or a.retrieval_possible is None:
        return None
    return a.teacher_available == "yes_licensed" and not a.retrieval_possible and not changes_often(a)


def trains_unknown_facts(a: Answers) -> bool | None:
    """The examples state facts that the model does not know, and nothing else holds them."""
    if a.train_unknown_fact_share is None:
        return None
    return a.train_unknown_fact_share == "high" and not is_huge(a) and a.retrieval_possible is not False


def can_retrieve(a: Answers) -> bool | None:
    """Retrieval is not known to be impossible."""
    return a.retrieval_possible is not False


# Prompt


def form_can_be_forced(a: Answers) -> bool | None:
    """The output has a schema or a grammar that decoding can enforce."""
    form = strictness(a)
    return None if form is None else form in {"json_schema", "dsl_grammar"}


def many_shots_fit(a: Answers) -> bool | None:
    """There are many classes and hundreds of examples to choose from."""
    if a.n_labels is None or a.n_labelled is None:
        return None
    return a.n_labels >= MANY_LABELS and a.n_labelled >= MINIMUM["classification"]


def prompt_is_dear(a: Answers) -> bool | None:
    """A long prompt is paid on very many requests."""
    if a.prompt_tokens is None or a.requests_per_day is None:
        return None
    return a.prompt_tokens >= LONG_PROMPT_TOKENS and a.requests_per_day == "high"


def instructions_differ(a: Answers) -> bool | None:
    """The instructions differ from request to request."""
    return a.per_request_instructions


# Style and behaviour


def is_unsettled(a: Answers) -> bool | None:
    """The wanted behaviour is not settled, or changes must ship within seconds."""
    if a.style_stable is False or a.iteration == "seconds":
        return True
    return None if a.style_stable is None or a.iteration is None else False


def schema_is_all(a: Answers) -> bool | None:
    """Only the form fails, and it has a JSON schema."""
    form = strictness(a)
    return None if form is None else form == "json_schema" and not a.lacks_skill


def wants_safety(a: Answers) -> bool | None:
    """It is about safety or values."""
    return a.needs_safety_alignment


def can_be_checked(a: Answers) -> bool | None:
    """A program can check the answers, and the task calls for it."""
    if a.verifier is None:
        return None
    if a.verifier != "programmatic":
        return False
    return bool(a.lacks_skill) or a.task_type == "reasoning_verifiable" or sometimes_right(a) is not None


def is_verifiable_skill(a: Answers) -> bool | None:
    """Skill is missing, and a program can check the answers."""
    if a.verifier is None:
        return None
    return a.verifier == "programmatic" and (bool(a.lacks_skill) or a.task_type == "reasoning_verifiable")


def has_pairs(a: Answers) -> bool | None:
    """There are a thousand better/worse pairs or more."""
    return None if a.n_pref_pairs is None else a.n_pref_pairs >= PAIRS_WORKABLE


def has_unpaired(a: Answers) -> bool | None:
    """There are two thousand single ratings or more."""
    return None if a.n_unpaired_feedback is None else a.n_unpaired_feedback >= UNPAIRED_WORKABLE


def labels_are_noisy(a: Answers) -> bool | None:
    """The examples are noisy, or experts do not agree on them."""
    if a.label_quality == "noisy" or a.label_agreement == "low":
        return True
    return None if a.label_quality is None or a.label_agreement is None else False


def has_demonstrations(a: Answers) -> bool | None:
    """There are enough demonstrations for this kind of task, and they are not noisy."""
    if a.n_labelled is None:
        return None
    if a.label_quality == "noisy":
        return False
    return a.n_labelled >= minimum_examples(
        a.task_type, a.lacks_style_format, a.label_quality, a.fewshot_gain
    )


def may_have_demonstrations(a: Answers) -> bool | None:
    """There are enough demonstrations, or clean ones that nobody has counted."""
    if a.n_labelled is None and a.label_quality in {"gold", "mixed"}:
        return probably_enough(a)  # a quality of labels is known only where there are labels
    return has_demonstrations(a)


def probably_enough(a: Answers) -> bool:
    """There are labels that nobody has counted, and as many as this kind of task needs would be nothing unusual."""
    least = minimum_examples(a.task_type, a.lacks_style_format, a.label_quality, a.fewshot_gain)
    some = [(float(n), weight) for n, weight in FACTS["n_labelled"].prior if n]
    return sum(w for n, w in some if n >= least) >= PROBABLY * sum(w for _, w in some)


def too_few_but_teacher(a: Answers) -> bool | None:
    """There are too few demonstrations, but a licensed teacher."""
    enough = has_demonstrations(a)
    return has_teacher(a) if enough is False else (None if enough is None else False)


def too_few(a: Answers) -> bool | None:
    """There are too few demonstrations for this kind of task."""
    return no(has_demonstrations)(a)


def is_classification(a: Answers) -> bool | None:
    """It is a classification with up to hundreds of classes."""
    if a.task_type is None:
        return None
    return a.task_type == "classification" and (a.n_labels or 0) <= ENCODER_LABELS


def shown_where_prompting_was_tried(a: Answers) -> bool | None:
    """There are demonstrations, counted or not, and the prompt is not known to be a first attempt."""
    return False if a.get("prompt_effort") in {"none", "zero_shot"} else may_have_demonstrations(a)


def has_data_or_pairs(a: Answers) -> bool | None:
    """There are enough demonstrations or preference pairs."""
    found = (may_have_demonstrations(a), has_pairs(a), has_unpaired(a))
    return True if True in found else None if found == (None, None, None) else False


# Skill


def lacks_skill(a: Answers) -> bool | None:
    """The reasoning is wrong although the facts are there."""
    return a.lacks_skill


def experts_disagree(a: Answers) -> bool | None:
    """Experts do not agree on the right answer."""
    return None if a.label_agreement is None else a.label_agreement == "low"


def student_is_done(a: Answers) -> bool | None:
    """The model to be trained is already right nearly always."""
    return None if a.student_success is None else a.student_success >= SOLVED


def sometimes_right(a: Answers) -> bool | None:
    """Some samples succeed and some fail."""
    if a.pass_at_k is not None:
        first = a.student_success if a.student_success is not None else 0.0
        return a.pass_at_k > 0 and first < 1
    rate = a.student_success if a.student_success is not None else a.prompt_success
    return None if rate is None else 0 < rate < 1


def never_right(a: Answers) -> bool | None:
    """No sample ever succeeds."""
    return None if a.pass_at_k is None else a.pass_at_k == 0


def never_right_but_teacher(a: Answers) -> bool | None:
    """No sample ever succeeds, but a licensed teacher does."""
    never = never_right(a)
    return has_teacher(a) if never else never


def never_right_but_shown(a: Answers) -> bool | None:
    """No sample ever succeeds, but there are enough demonstrations."""
    never = never_right(a)
    return has_demonstrations(a) if never else never


def small_student_with_teacher(a: Answers) -> bool | None:
    """A small model is to learn, and a licensed stronger one can teach."""
    teacher = has_teacher(a)
    if not teacher:
        return teacher
    if a.optimise_cost_latency or a.model_strength == "weak":
        return True
    return None if a.model_params_b is None else a.model_params_b <= SMALL_STUDENT_B


def can_be_reinforced(a: Answers) -> bool | None:
    """A program can check the answers, and some samples succeed while others fail."""
    if a.verifier is None:
        return None
    return sometimes_right(a) if a.verifier == "programmatic" else False


def checker_without_rate(a: Answers) -> bool | None:
    """A program can check the answers; how often one succeeds is not measured yet."""
    return None if a.verifier is None else a.verifier == "programmatic" and sometimes_right(a) is None


# Alignment


def reward_model_pays(a: Answers) -> bool | None:
    """Many comparisons, raters at hand while training, and a team that can carry it."""
    if a.n_pref_pairs is None:
        return None
    able = a.team_skill == "distributed" or a.budget == "large"
    return a.n_pref_pairs >= COMPARISONS_WORKABLE and able and bool(a.human_raters or a.online_feedback)


# Cost


def offline_with_labels(a: Answers) -> bool | None:
    """It must run on a device without a network, and there are enough demonstrations."""
    if a.privacy is None:
        return None
    return a.privacy == "offline_device" and bool(has_demonstrations(a))


def cost_or_offline(a: Answers) -> bool | None:
    """Price or speed is the problem, or it must run offline."""
    return True if a.privacy == "offline_device" else wants_cheaper(a)


def low_volume(a: Answers) -> bool | None:
    """There are few requests."""
    return None if a.requests_per_day is None else a.requests_per_day == "low"


def labelled_classification(a: Answers) -> bool | None:
    """It is a classification, and there are enough labels."""
    kind = is_classification(a)
    return may_have_demonstrations(a) if kind else kind


# How the weights move


def serves_many(a: Answers) -> bool | None:
    """One model serves several tasks or customers."""
    if a.n_tasks is None and a.n_tenants is None:
        return None
    return (a.n_tasks or 1) > 1 or (a.n_tenants or 1) > 1


def provider_trains(a: Answers) -> bool | None:
    """The team uses interfaces, the provider's tuning is open, and the data may go there."""
    if a.provider_ft_available is None:
        return None
    return a.provider_ft_available and a.team_skill in {"api", "none"} and managed_allowed(a)


def managed_allowed(a: Answers) -> bool:
    """The data may go to a provider."""
    return a.privacy not in {"on_prem", "offline_device"}


def no_gpu_to_speak_of(a: Answers) -> bool | None:
    """There is no GPU to speak of."""
    if a.vram_gb is None and a.gpus is None:
        return None
    if a.model_params_b is not None and a.model_params_b <= CPU_MODEL_B:
        return False
    return a.gpus == 0 or (a.vram_gb is not None and a.vram_gb < CPU_ONLY_GB)


def ample_far_and_fits(a: Answers) -> bool | None:
    """There is ample data in a distant domain, and full training fits."""
    if a.n_labelled is None:
        return None
    if a.n_labelled < AMPLE:
        return False
    far = is_far(a)
    return fits(a, FULL_BYTES) if far else far


def lora_does_not_fit(a: Answers) -> bool | None:
    """A 16-bit base does not fit into the memory; a 4-bit base does, or comes nearest."""
    return no(lora_fits)(a)


def lora_fits(a: Answers) -> bool | None:
    """A 16-bit base with LoRA fits into the memory."""
    return fits(a, LORA_BYTES)


def memory_gb(a: Answers) -> float | None:
    """GB of GPU memory in all."""
    return None if a.vram_gb is None else a.vram_gb * max(a.gpus or 1, 1)


def needed_gb(params_b: float | None, bytes_each: float) -> float:
    """GB that training needs by the rule of thumb."""
    return (params_b or TYPICAL_PARAMS_B) * bytes_each + OVERHEAD_GB


def fits(a: Answers, bytes_each: float) -> bool | None:
    """Whether a base model of the stated size fits with so many bytes a parameter."""
    have = memory_gb(a)
    return None if have is None else needed_gb(a.model_params_b, bytes_each) <= have
