"""What to ask next: the unknown fact with the most expected change of leaf a minute."""

from typing import Final

from advisor.decide.advice import Ask
from advisor.decide.answers import FACTS, Answers, possible
from advisor.decide.questions import BY_FACT
from advisor.decide.worlds import primary, read
from recipes.words import N_

SHOWN: Final = 3
OTHERS: Final = {
    "prompt_effort": N_(
        "How much has been tried with the prompt: nothing, one attempt, several, or examples as well?"
    ),
    "oracle_context_success": N_(
        "With the right passage pasted into the prompt by hand, how often is the answer right?"
    ),
    "fewshot_gain": N_("How much do three to eight examples in the prompt help?"),
    "requests_per_day": N_("How many requests come in a day?"),
    "cost_sensitive": N_("Does the price of each answer matter?"),
    "prompt_cache": N_("Does the serving system cache prompts?"),
    "corpus_tokens": N_("How long is the text that holds the facts, in tokens?"),
    "per_user_access_control": N_("Do users have different rights to the facts?"),
    "erasure_required": N_("Must facts be deletable on demand?"),
    "retrieval_in_place": N_("Is retrieval already built?"),
    "retrieval_recall": N_("Is the right passage among those retrieved?"),
    "label_agreement": N_("Do experts agree on the labels?"),
    "n_pref_pairs": N_("How many pairs of a better and a worse answer are there?"),
    "n_unpaired_feedback": N_("How many single thumbs up or down are there?"),
    "domain_shift": N_("How far is the domain from what the base model has seen?"),
    "iteration": N_("How fast must a change reach the users: in seconds, hours or days?"),
    "n_tenants": N_("How many customers shall one model serve?"),
    "must_follow_prompts": N_("Must the model still follow its prompts afterwards?"),
    "provider_ft_available": N_("Is the provider's tuning open to you?"),
    "frontier_allowed": N_("May you use the strongest models?"),
    "model_strength": N_("Is the model strong for its kind?"),
}
"""Facts that only an expert is asked for: no screen puts them, but an answer could change the leaf."""


def ask_next(a: Answers, leaf: str, first: tuple[str, ...] = (), limit: int = SHOWN) -> tuple[Ask, ...]:
    """The questions worth asking, best first.

    Args:
        a: The answers.
        leaf: The primary leaf that they lead to.
        first: Unknown facts that the walk assumed; they go before all others.
        limit: How many at most.
    """
    worth = {
        name: _expected_change(a, name, leaf) / FACTS[name].minutes
        for name in dict.fromkeys((*first, *read(a)))
        if FACTS[name].prior and a.get(name) is None
    }
    ranked = sorted(worth, key=lambda name: (name not in first, -worth[name]))
    return tuple(_ask(name) for name in ranked if worth[name] > 0 or name in first)[:limit]


def _expected_change(a: Answers, fact: str, leaf: str) -> float:
    known = a.known()
    return sum(
        weight
        for value, weight in FACTS[fact].prior
        if possible(known, fact, value) and primary(a.but(**{fact: value})) != leaf
    )


def _ask(fact: str) -> Ask:
    question = BY_FACT.get(fact)
    return Ask(fact, question.text if question else OTHERS[fact], FACTS[fact].minutes)
