"""Making a plan smaller until it fits: concessions, tried in order, each with its reason.

A concession takes a plan and gives a smaller one, or None if there is nothing (left) to take. What costs quality
or time least comes first. When the plan fits, each concession that turns out not to be needed is taken back.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from advisor.catalog.gpus import Gpu, Hardware, gpus
from advisor.catalog.models import ModelShape, models
from advisor.data.stats import DataStats
from advisor.errors import NothingFits
from advisor.estimate.memory import estimate, fit
from advisor.estimate.setup import setup
from advisor.estimate.shapes import parameters
from advisor.estimate.terms import Estimate, Fit
from advisor.plan.proposal import Reason
from advisor.units import gib
from recipes.errors import Problem
from recipes.plan import Full, LastLayers, Lora, Plan, agrees
from recipes.words import N_

EFFICIENT_TOKENS: Final = {"cuda": 2048, "cpu": 512}
"""Micro-batches below this leave a device idle: on a GPU the weights are read more slowly than they are used."""
LEAST_RANK: Final = 8
"""Rank 8 on all linear layers holds more than the answers of ten thousand rows; below it little is saved."""
ROUND_TOKENS: Final = 64
MORE_CARDS: Final = (2, 4, 8, 16)
"""How many cards people have in one computer."""


@dataclass(frozen=True, slots=True)
class Concession:
    """One way to need less: what it does, which fields it changes, and the sentence that stays in the recipe.

    The sentence may use {needs} (GiB before), {has} (GiB of the hardware) and {hardware}.
    """

    smaller: Callable[[Plan, DataStats], Plan | None]
    keys: tuple[str, ...]
    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Fitted:
    """A plan that fits, its estimate, and what was conceded for it (also by dotted key, in `why`)."""

    plan: Plan
    estimate: Estimate
    fit: Fit
    concessions: tuple[Reason, ...]
    why: Mapping[str, Reason]


def with_schedule(plan: Plan, **changes: object) -> Plan:
    """`plan` with other values of its schedule (held against the schema where it is written)."""
    schedule = plan.schedule.model_copy(update=changes)
    return plan.model_copy(update={"schedule": schedule})


def _smaller_micro_batch(plan: Plan, stats: DataStats) -> Plan | None:
    """Half the tokens at once, twice as often: the same step, with fewer activations."""
    device = "cpu" if plan.layout.device == "cpu" else "cuda"
    return half(plan, max(plan.data.length_tokens, EFFICIENT_TOKENS[device]))


def _smallest_micro_batch(plan: Plan, stats: DataStats) -> Plan | None:
    """The same, down to one row of full length at once."""
    return half(plan, plan.data.length_tokens)


def half(plan: Plan, least: int) -> Plan | None:
    """Half the tokens at once, but not below `least`; None if there is nothing to halve."""
    now = plan.schedule.micro_batch_tokens
    if now <= least:
        return None
    tokens = max(least, ceil(now / 2 / ROUND_TOKENS) * ROUND_TOKENS)
    if tokens >= now:
        return None
    held = max(1, round(plan.schedule.accumulation * now / tokens))
    return with_schedule(plan, micro_batch_tokens=tokens, accumulation=held)


def _checkpointing(plan: Plan, stats: DataStats) -> Plan | None:
    """Recompute activations: a third to a half more time."""
    return None if plan.schedule.checkpointing else with_schedule(plan, checkpointing=True)


def shorter_rows(plan: Plan, stats: DataStats) -> Plan | None:
    """Leave out the longest hundredth of the rows, where that makes rows shorter at all."""
    shorter = max(ROUND_TOKENS, ceil(stats.p99_tokens / ROUND_TOKENS) * ROUND_TOKENS)
    if shorter >= plan.data.length_tokens:
        return None
    data = plan.data.model_copy(update={"length_tokens": shorter, "too_long": "drop"})
    held = max(1, round(plan.schedule.accumulation * plan.schedule.micro_batch_tokens / shorter))
    short = plan.model_copy(update={"data": data})
    return with_schedule(short, micro_batch_tokens=shorter, accumulation=held)


def _nf4_base(plan: Plan, stats: DataStats) -> Plan | None:
    """Hold the frozen base in 4 bits: QLoRA."""
    lora = plan.adaptation
    if not isinstance(lora, Lora) or lora.base == "nf4":
        return None
    return plan.model_copy(update={"adaptation": lora.model_copy(update={"base": "nf4"})})


def _smaller_rank(plan: Plan, stats: DataStats) -> Plan | None:
    """Half the rank: fewer adapter weights and moments."""
    lora = plan.adaptation
    if not isinstance(lora, Lora) or lora.rank <= LEAST_RANK:
        return None
    rank = max(LEAST_RANK, lora.rank // 2)
    smaller = lora.model_copy(update={"rank": rank, "alpha": lora.alpha * rank / lora.rank})
    return plan.model_copy(update={"adaptation": smaller})


def _fewer_layers(plan: Plan, stats: DataStats) -> Plan | None:
    """Half of the last layers."""
    last = plan.adaptation
    if not isinstance(last, LastLayers) or last.layers == 1:
        return None
    return plan.model_copy(update={"adaptation": LastLayers(layers=last.layers // 2)})


_MICRO_KEYS: Final = ("schedule.micro_batch_tokens", "schedule.accumulation")

CONCESSIONS: Final = (
    Concession(
        _smaller_micro_batch,
        _MICRO_KEYS,
        N_("fewer tokens at once and more micro-batches a step: {needs} would not fit into {has}"),
        "ours",
    ),
    Concession(
        _checkpointing,
        ("schedule.checkpointing",),
        N_("activations are recomputed: keeping them needs {needs}, and {hardware} has {has}"),
        "chen2016",
    ),
    Concession(
        _smallest_micro_batch,
        _MICRO_KEYS,
        N_("one row of full length at once: more would need {needs}, and {hardware} has {has}"),
        "ours",
    ),
    Concession(
        _nf4_base,
        ("adaptation.base",),
        N_("QLoRA, because LoRA in {dtype} needs {needs} and {hardware} has {has}"),
        "dettmers2023",
    ),
    Concession(
        shorter_rows,
        ("data.length_tokens", *_MICRO_KEYS),
        N_("the longest hundredth of the rows is left out: with it {needs} are needed, {hardware} has {has}"),
        "data",
    ),
    Concession(
        _smaller_rank,
        ("adaptation.rank", "adaptation.alpha"),
        N_("a smaller rank: with the usual one {needs} are needed, {hardware} has {has}"),
        "ours",
    ),
    Concession(
        _fewer_layers,
        ("adaptation.layers",),
        N_("fewer last layers: with more {needs} are needed, {hardware} has {has}"),
        "ours",
    ),
)
"""In the order in which they are tried: first what costs a little time, then quality, then data."""


@dataclass(frozen=True, slots=True)
class Case:
    """What stays the same while a plan shrinks."""

    shape: ModelShape
    stats: DataStats
    hardware: Hardware

    def needs(self, plan: Plan) -> Estimate:
        """The memory of one device."""
        return estimate(setup(plan, self.shape, self.stats, device=self.hardware.kind))

    def fits(self, plan: Plan) -> bool:
        """Whether the upper bound of it is there."""
        return fit(self.needs(plan), self.hardware.usable_bytes) == "fits"


def conceded(plan: Plan, shape: ModelShape, stats: DataStats, hardware: Hardware) -> Fitted:
    """Concede until the upper bound of the memory interval fits the hardware.

    Raises:
        NothingFits: With everything conceded it still does not; the nearest change is in the remedy.
    """
    case = Case(shape, stats, hardware)
    taken = _taken(plan, case)
    needed = _without_idle(plan, tuple(taken), case)
    reasons = {
        concession: _reason(concession, before, plan, hardware)
        for concession, before in taken.items()
        if concession in needed
    }
    why = {key: reason for concession, reason in reasons.items() for key in concession.keys}
    small = _all_applied(plan, needed, case)
    final = case.needs(small)
    return Fitted(small, final, fit(final, hardware.usable_bytes), tuple(reasons.values()), why)


def _taken(plan: Plan, case: Case) -> dict[Concession, Estimate]:
    """The concessions, in order, after which the plan fits; with each, what was needed before it.

    Raises:
        NothingFits: No number of them suffices.
    """
    taken: dict[Concession, Estimate] = {}
    for concession in CONCESSIONS:
        if case.fits(plan):
            return taken
        before, smaller = case.needs(plan), _applied(concession, plan, case)
        if smaller is not None:
            plan, taken[concession] = smaller, before
    if case.fits(plan):
        return taken
    raise nothing_fits(plan, case)


def _applied(concession: Concession, plan: Plan, case: Case) -> Plan | None:
    """Concede, and again while there is more to take and it does not fit; None if there was nothing."""
    smaller = concession.smaller(plan, case.stats)
    while smaller is not None and not case.fits(smaller):
        further = concession.smaller(smaller, case.stats)
        if further is None:
            return smaller
        smaller = further
    return smaller


def _without_idle(plan: Plan, taken: tuple[Concession, ...], case: Case) -> tuple[Concession, ...]:
    """Take back what a later, larger concession has made unnecessary."""
    kept = taken
    for concession in taken:
        others = tuple(other for other in kept if other is not concession)
        if case.fits(_all_applied(plan, others, case)):
            kept = others
    return kept


def _all_applied(plan: Plan, concessions: tuple[Concession, ...], case: Case) -> Plan:
    for concession in concessions:
        plan = _applied(concession, plan, case) or plan
    return plan


def _reason(concession: Concession, before: Estimate, plan: Plan, hardware: Hardware) -> Reason:
    values: dict[str, str | int | float] = {
        "needs": gib(before.process.high),
        "has": gib(hardware.usable_bytes),
        "hardware": hardware.name,
        "dtype": plan.model.dtype,
    }
    return Reason(concession.text, values, concession.source)


def nothing_fits(plan: Plan, case: Case, cards: int = 1) -> NothingFits:
    """The refusal, with the nearest changes that would help, each computed.

    Args:
        plan: The least that was tried, on one card.
        case: Model, data and hardware.
        cards: How many cards were tried.
    """
    needs = case.needs(plan).process.high
    values = {
        "needs": gib(needs),
        "has": gib(case.hardware.usable_bytes),
        "hardware": case.hardware.name,
        "model": case.shape.name,
        "card": _card(needs) or "-",
    }
    problem = N_("{model} needs {needs} even with every concession; {hardware} has {has}")
    changes = tuple(_changes(plan, case, cards))
    if method := _smaller_method(plan, case):
        leaf, size = method
        remedy = N_("choose {leaf}, which needs {other}; or a card such as {card}")
        return NothingFits(problem, remedy=remedy, changes=changes, **values, leaf=leaf, other=gib(size))
    if smaller := _smaller_model(plan, case):
        name, size = smaller
        remedy = N_("choose {smaller}, which needs {other}; or a card such as {card}")
        return NothingFits(problem, remedy=remedy, changes=changes, **values, smaller=name, other=gib(size))
    remedy = N_("use a card such as {card}, or rows that are shorter")
    return NothingFits(problem, remedy=remedy, changes=changes, **values)


def _changes(plan: Plan, case: Case, cards: int) -> Iterator[Problem]:
    """What would make it fit, the nearest first: a method, a model, shorter rows, more cards."""
    if method := _smaller_method(plan, case):
        yield Problem(N_("{leaf} would need {other}"), values={"leaf": method[0], "other": gib(method[1])})
    if smaller := _smaller_model(plan, case):
        yield Problem(
            N_("{smaller} would need {other}"), values={"smaller": smaller[0], "other": gib(smaller[1])}
        )
    if rows := _longest_rows(plan, case):
        yield Problem(
            N_("rows of at most {tokens} tokens would need {other}"),
            values={"tokens": rows[0], "other": gib(rows[1])},
        )
    if more := _more_cards(plan, case, cards):
        yield Problem(
            N_("{cards} such cards that divide the model would need {other} each"),
            values={"cards": more[0], "other": gib(more[1])},
        )


def _longest_rows(plan: Plan, case: Case) -> tuple[int, float] | None:
    """The length of rows, halved until it fits, and what is needed then."""
    tokens = plan.data.length_tokens
    while (tokens := tokens // 2 // ROUND_TOKENS * ROUND_TOKENS) >= ROUND_TOKENS:
        short = plan.model_copy(
            update={"data": plan.data.model_copy(update={"length_tokens": tokens, "too_long": "drop"})}
        )
        short = with_schedule(short, micro_batch_tokens=tokens)
        if case.fits(short):
            return tokens, case.needs(short).process.high
    return None


def _more_cards(plan: Plan, case: Case, cards: int) -> tuple[int, float] | None:
    """The least number of cards, doubled up to a node of 16, among which the model can be divided so that it fits."""
    if case.hardware.kind != "cuda":
        return None
    for count in (number for number in MORE_CARDS if number > cards):
        for sharding in ("zero2", "fsdp2", "zero3"):
            layout = plan.layout.model_copy(update={"processes": count, "sharding": sharding})
            divided = plan.model_copy(update={"layout": layout})
            divided = with_schedule(divided, optimizer="adamw", exact_weights=True)
            if agrees(divided) and case.fits(divided):
                return count, case.needs(divided).process.high
    return None


def _smaller_method(plan: Plan, case: Case) -> tuple[str, float] | None:
    """Another leaf with which the model fits, and what it needs."""
    if not isinstance(plan.adaptation, Full | LastLayers):
        return None
    for leaf, base in (("sft_lora", Lora()), ("sft_qlora", Lora(base="nf4"))):
        other = plan.model_copy(update={"adaptation": base})
        if case.fits(other):
            return leaf, case.needs(other).process.high
    return None


def _smaller_model(plan: Plan, case: Case) -> tuple[str, float] | None:
    """The largest model of the same family (else of any) that fits with the plan's method, and what it needs."""
    own = parameters(case.shape)
    smaller = [shape for shape in models().values() if _is_estimated(shape) and parameters(shape) < own]
    smaller.sort(key=lambda shape: (shape.family == case.shape.family, parameters(shape)), reverse=True)
    for shape in smaller:
        other = Case(shape, case.stats, case.hardware)
        fewer = _clipped(plan, shape)
        if other.fits(fewer):
            return shape.name, other.needs(fewer).process.high
    return None


def _is_estimated(shape: ModelShape) -> bool:
    return shape.estimator == "closed_form" and shape.verified


def _clipped(plan: Plan, shape: ModelShape) -> Plan:
    last = plan.adaptation
    if not isinstance(last, LastLayers) or last.layers <= shape.layers:
        return plan
    return plan.model_copy(update={"adaptation": LastLayers(layers=shape.layers)})


def _card(needs: float) -> str | None:
    """The smallest NVIDIA card of the catalogue with room for `needs` bytes."""
    enough = [card for card in _cards() if (card.usable_bytes or 0) > needs]
    return min(enough, key=lambda card: card.usable_bytes or 0).name if enough else None


def _cards() -> Iterator[Gpu]:
    return (card for card in gpus().values() if card.vendor == "NVIDIA" and "laptop" not in card.kind)
