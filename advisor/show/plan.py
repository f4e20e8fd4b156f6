"""Plans as text: the ranked list with the trade between them, or one in full, each value with its reason."""

from collections.abc import Iterator, Mapping, Sequence

from advisor import units
from advisor.estimate.terms import Interval
from advisor.estimate.time import Timing
from advisor.plan.alternatives import Alternative
from advisor.plan.proposal import Proposal, Reason
from advisor.plan.ranking import Weights
from advisor.show import timing
from advisor.show.columns import columns
from advisor.show.estimate import METHODS, WORDS
from advisor.show.timing import LIMITS
from advisor.text import N_, inert, t
from recipes.plan import method

VALUE = 34
"""Cells of key and value; the reason stands after them."""
SHOWN = 12
"""Rows of the list: more help nobody choose."""
NOTABLE = 1.05
"""From this ratio on a difference in time or cost is worth a word."""
SOON = 600
UNKNOWN = "-"


def text(proposal: Proposal) -> str:
    """The whole proposal."""
    blocks = (_head(proposal), _conceded(proposal), _values(proposal))
    return "\n\n".join("\n".join(block) for block in map(tuple, blocks) if block)


def ranking(found: Sequence[Alternative], weights: Weights, *, everything: bool = False) -> str:
    """The list, best first, and what its order means."""
    return "\n".join((*_table(found, everything=everything), "", *_legend(found, weights)))


def _table(found: Sequence[Alternative], *, everything: bool) -> Iterator[str]:
    shown = found if everything else found[:SHOWN]
    several = len({one.wanted.model_id for one in found}) > 1
    head = (
        "",
        t(N_("method")),
        *((t(N_("model")),) if several else ()),
        t(N_("cards")),
        t(N_("tokens at once")),
        t(N_("needs")),
        t(N_("time")),
        t(N_("rent")),
        t(N_("quality")),
        t(N_("score")),
        t(N_("against the best")),
    )
    rows = [_cells(number, one, found[0], several=several) for number, one in enumerate(shown, 1)]
    yield from columns([head, *rows])
    if len(shown) < len(found):
        yield t(N_("... and {more} more (--all)"), more=len(found) - len(shown))


def _cells(number: int, one: Alternative, best: Alternative, *, several: bool) -> tuple[str, ...]:
    schedule, timing = one.plan.schedule, one.timing
    recomputed = t(N_(", recomputed")) if schedule.checkpointing else ""
    rent = timing.rent_usd if isinstance(timing, Timing) else None
    name = method(one.plan.adaptation)
    return (
        f"{number}{'*' if one.on_front else ''}",
        t(METHODS.get(name, name)),
        *((one.wanted.model_id,) if several else ()),
        _cards(one),
        f"{schedule.micro_batch_tokens:,}{recomputed}",
        units.gib(one.estimate.process.high),
        between(timing.total) if isinstance(timing, Timing) else UNKNOWN,
        f"${rent.low:.2f}-{rent.high:.2f}" if rent else UNKNOWN,
        f"{one.merits.quality:.1f}",
        f"{one.score:.1f}",
        "" if one is best else trade(one, best),
    )


def _cards(one: Alternative) -> str:
    layout = one.plan.layout
    divided = "" if layout.sharding == "none" else f" {layout.sharding}"
    return f"{layout.processes}{divided}"


def trade(one: Alternative, best: Alternative) -> str:
    """What one gives and takes against the best: ratios of time and cost, points of quality."""
    said = []
    for text, mine, theirs in (
        (N_("time x{ratio}"), one.merits.time, best.merits.time),
        (N_("cost x{ratio}"), one.merits.cost, best.merits.cost),
    ):
        ratio = mine / theirs
        if max(ratio, 1 / ratio) >= NOTABLE:
            said.append(t(text, ratio=f"{ratio:.2g}"))
    if points := round(one.merits.quality - best.merits.quality, 1):
        said.append(t(N_("quality {points}"), points=f"{points:+g}"))
    return ", ".join(said)


def line(one: Alternative, best: Alternative) -> str:
    """One plan in a line of its own, where there is no room for the table."""
    timing = one.timing
    parts = (
        t(METHODS.get(method(one.plan.adaptation), method(one.plan.adaptation))),
        units.gib(one.estimate.process.high),
        between(timing.total) if isinstance(timing, Timing) else "",
        "" if one is best else trade(one, best),
    )
    return "  ".join(part for part in parts if part)


def _legend(found: Sequence[Alternative], weights: Weights) -> Iterator[str]:
    yield t(
        N_("order ({name}): quality of 100, less {time:g} for each doubling of time and {cost:g} of cost"),
        name=weights.name,
        time=weights.time,
        cost=weights.cost,
    )
    yield t(N_("* no other plan is better in one of quality, time and cost, and as good in the others"))
    timing = found[0].timing
    if isinstance(timing, Timing) and timing.rent_usd:
        yield t(N_("rent in USD, at prices of {date}"), date=timing.rent_date or UNKNOWN)
    if not isinstance(timing, Timing):
        yield t(timing.text, **timing.values)
        yield t(N_("so plans are compared by their operations"))


def best(one: Alternative, proposal: Proposal) -> str:
    """The first row in words: why it is as it is, and how to go on."""
    return "\n".join(_best(one, proposal))


def _best(one: Alternative, proposal: Proposal) -> Iterator[str]:
    yield t(
        N_("1 is {method} on {model}:"),
        method=t(METHODS.get(method(one.plan.adaptation), "-")),
        model=inert(one.wanted.model_id),
    )
    for reason in proposal.concessions:
        yield f"  - {sentence(reason)}"
    for part in one.points:
        yield f"  - {t(N_('quality {points}'), points=f'{part.points:+.1f}')}: {sentence(part.why)}"
    if isinstance(one.timing, Timing):
        yield f"  - {t(LIMITS[one.timing.limited_by])}"
    yield t(N_("in full: --pick N; as a recipe: --pick N -o DIRECTORY"))


def between(length: Interval) -> str:
    """A span of time; seconds up to ten minutes, so that both ends differ."""
    if length.high < SOON:
        return f"{length.low:.0f}-{length.high:.0f} s"
    return f"{units.seconds(length.low)} - {units.seconds(length.high)}"


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
    yield from timing.text(proposal.timing)


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
