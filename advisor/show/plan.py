"""A proposal as text: what was conceded, then each value with its reason."""

from collections.abc import Iterator, Mapping

from advisor import units
from advisor.plan.proposal import Proposal, Reason
from advisor.show.estimate import WORDS
from advisor.text import N_, inert, t

VALUE = 34
"""Cells of key and value; the reason stands after them."""


def text(proposal: Proposal) -> str:
    """The whole proposal."""
    blocks = (_head(proposal), _conceded(proposal), _values(proposal))
    return "\n\n".join("\n".join(block) for block in map(tuple, blocks) if block)


def sentence(reason: Reason) -> str:
    """A reason in the reader's language, safe for a terminal."""
    return inert(t(reason.text, **reason.values))


def _head(proposal: Proposal) -> Iterator[str]:
    found = proposal.estimate
    yield t(N_("plan   {name}: {model}"), name=proposal.plan.name, model=inert(proposal.plan.model.id))
    yield t(
        N_("memory {peak} at the peak, at most {high} in all: {verdict}"),
        peak=units.gib(found.allocated),
        high=units.gib(found.process.high),
        verdict=t(WORDS[proposal.fit]),
    )
    if proposal.seconds is None:
        yield t(N_("time   not known: nobody measured this hardware with this model"))
    else:
        low, high = units.seconds(proposal.seconds.low), units.seconds(proposal.seconds.high)
        yield t(N_("time   {low} to {high} of training"), low=low, high=high)


def _conceded(proposal: Proposal) -> Iterator[str]:
    if proposal.concessions:
        yield t(N_("conceded, so that it fits:"))
    for reason in proposal.concessions:
        yield f"  - {sentence(reason)}"


def _values(proposal: Proposal) -> Iterator[str]:
    for key, value in flat(proposal.plan.model_dump(exclude_none=True)):
        pair = f"{key} = {inert(_short(value))}"
        reason = proposal.why.get(key)
        yield f"  {pair:<{VALUE}}  # {sentence(reason)}" if reason else f"  {pair}"


def flat(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every leaf of nested tables with its dotted key, in order."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _short(value: object) -> str:
    words = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return words if len(words) <= 40 else f"{words[:37]}..."
