"""What to ask next: the unknown fact with the most expected change of leaf a minute."""

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Final

from advisor.decide.advice import Ask
from advisor.decide.answers import FACTS, Answers, possible
from advisor.decide.beliefs import prior
from advisor.decide.groups import GROUPS
from advisor.decide.questions import BY_FACT
from advisor.decide.worlds import Nearby
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
    "unlabelled_tokens": N_("How much raw text of the domain is there, in tokens?"),
    "per_user_access_control": N_("Do users have different rights to the facts?"),
    "erasure_required": N_("Must facts be deletable on demand?"),
    "retrieval_in_place": N_("Is retrieval already built?"),
    "retrieval_recall": N_("Is the right passage among those retrieved?"),
    "label_agreement": N_("Do experts agree on the labels?"),
    "n_pref_pairs": N_("How many pairs of a better and a worse answer are there?"),
    "n_unpaired_feedback": N_("How many single thumbs up or down are there?"),
    "domain_shift": N_("How far is the domain from what the base model has seen?"),
    "language_shift": N_("How well does the base model know the language?"),
    "iteration": N_("How fast must a change reach the users: in seconds, hours or days?"),
    "n_tenants": N_("How many customers shall one model serve?"),
    "must_follow_prompts": N_("Must the model still follow its prompts afterwards?"),
    "provider_ft_available": N_("Is the provider's tuning open to you?"),
    "frontier_allowed": N_("May you use the strongest models?"),
    "model_strength": N_("Is the model strong for its kind?"),
}
"""Facts that only an expert is asked for: no screen puts them, but an answer could change the leaf."""


def ask_next(
    a: Answers,
    leaf: str,
    looked_at: Sequence[str],
    at: Nearby,
    *,
    first: Sequence[Collection[str]],
    can_matter: Collection[str],
) -> tuple[Ask, ...]:
    """The questions worth asking, best first, one of each group; none where no answer can change the leaf any more.

    Args:
        a: The answers.
        leaf: The primary leaf that they lead to.
        looked_at: The facts that the way to it looks at.
        at: Where a change of one fact leads.
        first: Groups of facts that go before all others: those that the walk assumed, then the decisive ones.
        can_matter: The facts that can change the leaf together with others.
    """
    unknown = [name for name in dict.fromkeys((*chain(*first), *looked_at)) if a.get(name) is None]
    worth = {name: _expected_change(a, name, leaf, at) / FACTS[name].minutes for name in unknown}
    ranked = sorted(worth, key=lambda name: ([name not in group for group in first], -worth[name]))
    useful = [name for name in ranked if worth[name] > 0 or name in can_matter]
    best_of_group = {FACTS[name].group: name for name in reversed(useful)}
    return tuple(_ask(name) for name in useful if best_of_group[FACTS[name].group] == name)[:SHOWN]


def _expected_change(a: Answers, fact: str, leaf: str, at: Nearby) -> float:
    known = a.known()
    return sum(
        weight for value, weight in prior(fact, a) if possible(known, fact, value) and at(fact, value) != leaf
    )


def wording(fact: str) -> str:
    """The question that asks for `fact`: its own, else that of its group."""
    own = BY_FACT.get(fact)
    return own.text if own else OTHERS.get(fact, GROUPS[FACTS[fact].group].question)


def _ask(fact: str) -> Ask:
    return Ask(fact, wording(fact), FACTS[fact].minutes)
