"""Every plan worth looking at: model x method x devices x sharding x optimizer x recomputation x rows at once, ranked.

What costs quality and only saves memory (shorter rows) is tried only where nothing else fits, and of the micro-batches
that fit only the largest is kept: a smaller one is never faster. Weights are divided only where whole ones keep
activations from staying. What is left differs in quality, time or cost, and is ranked by all three.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import log2
from typing import Final

from advisor.estimate.memory import fit
from advisor.estimate.setup import Unsupported, require_known, setup
from advisor.estimate.shapes import parameters
from advisor.estimate.terms import Estimate
from advisor.estimate.time import Timing, Untimed
from advisor.estimate.work import micro_batch
from advisor.plan import ranking
from advisor.plan.compose import Wanted, finished, first, timed
from advisor.plan.fit import Case, Fitted, half, nothing_fits, shorter_rows, with_schedule
from advisor.plan.proposal import Proposal, Reason
from advisor.units import gib
from recipes.plan import Full, LastLayers, Layout, Lora, Plan, Schedule, agrees
from recipes.words import N_

RECOMPUTED_EVERY: Final = (1, 2, 4)
"""Blocks between two activations that are kept: more of them keep fewer, and recompute more at once."""
STEP_GROWTH: Final = 1.5
"""More devices than a step has rows for would make the step larger; beyond this the batch is another one."""
OPTIMIZERS: Final = ("adamw", "adamw_8bit", "paged_adamw_8bit")
SHARDINGS: Final = ("none", "zero2", "fsdp2", "zero3")
"""From what divides least and exchanges least to what divides all."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many cards stand in each of how many computers."""

    cards: int = 1
    nodes: int = 1

    @property
    def layouts(self) -> Iterator[Layout]:
        """How many of them a run may use: one, two, four ... of one computer, all of it, all of all."""
        counts = {2**n for n in range(self.cards.bit_length()) if 2**n <= self.cards} | {self.cards}
        yield from (Layout(processes=count) for count in sorted(counts))
        if self.nodes > 1:
            yield Layout(processes=self.cards * self.nodes, nodes=self.nodes)


@dataclass(frozen=True, slots=True)
class Alternative:
    """One plan of the list, with what it is ranked by.

    `time` and `cost` are what the ranking compares: seconds and USD where they are known, else operations and
    device-operations; only their ratios mean something. `on_front`: no other plan is better in one thing and at
    least as good in the others.
    """

    wanted: Wanted
    plan: Plan
    estimate: Estimate
    timing: Timing | Untimed
    points: tuple[ranking.Points, ...]
    merits: ranking.Merits
    score: float = 0.0
    on_front: bool = False


def alternatives(
    wanted: Sequence[Wanted],
    fleet: Fleet = Fleet(),
    *,
    weights: ranking.Weights | None = None,
    advised: str | None = None,
) -> tuple[Alternative, ...]:
    """List the plans that fit, best first: one for each model, method, number of devices and sharding.

    Args:
        wanted: What is asked for: one for each model and method.
        fleet: The cards.
        weights: What a doubling of time and of cost is worth; the usual ones if None.
        advised: The leaf that the advice names; None if nothing was advised.

    Raises:
        Unsupported: No formula tells the memory of any of the models.
        NothingFits: None of them fits; the nearest changes are computed.
    """
    used = weights or next(iter(ranking.weights().values()))
    known = _estimated(wanted)
    largest = max(parameters(one.shape) for one in known)
    found = [each for one in known for each in _fitting(one, fleet, largest, advised)]
    if not found:
        last = min(known, key=lambda one: _least(one).process.high)
        raise nothing_fits(_smallest(last), Case(last.shape, last.stats, last.hardware), fleet.cards)
    return _ranked(_best_of_each(found, used), used)


def proposal(one: Alternative) -> Proposal:
    """An alternative as a proposal: every value with its reason, and what was conceded in words."""
    plan, why = first(one.wanted)
    case = Case(one.wanted.shape, one.wanted.stats, one.wanted.hardware)
    said = tuple(_said(one.plan, plan, case))
    reasons = {key: reason for keys, reason, _ in said for key in keys}
    fitted = Fitted(
        plan=one.plan,
        estimate=one.estimate,
        fit=fit(one.estimate, one.wanted.hardware.usable_bytes),
        concessions=tuple(reason for _, reason, needed in said if needed),
        why={**why, **_layout_reasons(one.plan), **reasons},
    )
    return finished(fitted, one.wanted)


def _estimated(wanted: Sequence[Wanted]) -> list[Wanted]:
    """Those whose model a formula describes; refused only if there is none."""
    found, refused = [], None
    for one in wanted:
        try:
            require_known(one.shape)
        except Unsupported as reason:
            refused = refused or reason
        else:
            found.append(one)
    if refused and not found:
        raise refused
    return found


# --- what fits ---------------------------------------------------------------------------------------------------


def _fitting(one: Wanted, fleet: Fleet, largest: int, advised: str | None) -> Iterator[Alternative]:
    base, _ = first(one)
    case = Case(one.shape, one.stats, one.hardware)
    halvings = log2(largest / parameters(one.shape))
    for layout in fleet.layouts if one.hardware.kind == "cuda" else (Layout(),):
        for plan in _laid_out(base, layout, case):
            shortened = plan.data.length_tokens < base.data.length_tokens
            points = ranking.points(
                plan,
                one.stats,
                advised=advised in {None, one.leaf},
                shortened=shortened,
                halvings=halvings,
            )
            timing = timed(plan, one)
            yield Alternative(one, plan, case.needs(plan), timing, points, _merits(plan, one, timing, points))


def _laid_out(base: Plan, layout: Layout, case: Case) -> Iterator[Plan]:
    """The plans that fit on so many devices; sharding only as far as it lets activations stay."""
    seen = list[Schedule]()
    for sharding in SHARDINGS if layout.processes > 1 else SHARDINGS[:1]:
        changed = {"processes": layout.processes, "nodes": layout.nodes, "sharding": sharding}
        spread = _spread(base.model_copy(update={"layout": base.layout.model_copy(update=changed)}))
        if _step_tokens(spread) > STEP_GROWTH * _step_tokens(base):
            return
        found = list(_with_optimizers(spread, case))
        yield from (plan for plan in found if plan.schedule not in seen)
        seen += (plan.schedule for plan in found)
        if any(not plan.schedule.checkpointing for plan in found):
            return


def _step_tokens(plan: Plan) -> int:
    schedule = plan.schedule
    return schedule.micro_batch_tokens * schedule.accumulation * plan.layout.processes


def _spread(plan: Plan) -> Plan:
    """The same rows a step over several devices: each has its share of the micro-batches."""
    count, schedule = plan.layout.processes, plan.schedule
    step = schedule.micro_batch_tokens * schedule.accumulation
    micro = max(plan.data.length_tokens, min(schedule.micro_batch_tokens, step // count))
    return with_schedule(plan, micro_batch_tokens=micro, accumulation=max(1, round(step / micro / count)))


def _optimizers(plan: Plan) -> Sequence[str]:
    """8-bit moments are worth a look where many weights move."""
    return OPTIMIZERS if isinstance(plan.adaptation, Full | LastLayers) else OPTIMIZERS[:1]


def _with_optimizers(plan: Plan, case: Case) -> Iterator[Plan]:
    """With full moments and with those of 8 bit; paged ones only where nothing else fits."""
    fits = False
    for name in _optimizers(plan):
        if fits and name.startswith("paged"):
            return
        for found in _of_optimizer(plan, name, case):
            fits = True
            yield found


def _of_optimizer(plan: Plan, name: str, case: Case) -> Iterator[Plan]:
    changed = with_schedule(plan, optimizer=name)
    if not agrees(changed):
        return
    found = list(_by_recomputation(changed, case))
    if not found and (shorter := shorter_rows(changed, case.stats)):
        found = list(_by_recomputation(shorter, case))
    yield from found


def _by_recomputation(plan: Plan, case: Case) -> Iterator[Plan]:
    """Activations kept; recomputed; recomputed with fewer kept, where that is what it takes."""
    if kept := _largest(with_schedule(plan, checkpointing=False), case):
        yield kept
    if kept and kept.schedule.micro_batch_tokens == plan.schedule.micro_batch_tokens:
        return
    for every in RECOMPUTED_EVERY:
        again = with_schedule(plan, checkpointing=True, checkpointing_layers=every)
        if found := _largest(again, case):
            yield found
            return


def _largest(plan: Plan, case: Case) -> Plan | None:
    """The plan with the largest micro-batch that fits."""
    smaller: Plan | None = plan
    while smaller is not None and not case.fits(smaller):
        smaller = half(smaller, smaller.data.length_tokens)
    return smaller


def _smallest(one: Wanted) -> Plan:
    """The least that a model and method can need on one device."""
    plan, _ = first(one)
    plan = with_schedule(
        plan, checkpointing=True, micro_batch_tokens=plan.data.length_tokens, optimizer=_optimizers(plan)[-1]
    )
    return shorter_rows(plan, one.stats) or plan


def _least(one: Wanted) -> Estimate:
    return Case(one.shape, one.stats, one.hardware).needs(_smallest(one))


# --- ranking -----------------------------------------------------------------------------------------------------


def _merits(
    plan: Plan, one: Wanted, timing: Timing | Untimed, points: Sequence[ranking.Points]
) -> ranking.Merits:
    quality = ranking.quality(points)
    if isinstance(timing, Timing):
        seconds = (timing.total.low * timing.total.high) ** 0.5
        return ranking.Merits(quality, seconds, seconds * plan.layout.processes)
    of_one = setup(plan, one.shape, one.stats, device=one.hardware.kind)
    each = micro_batch(of_one).flops / of_one.micro_batch_tokens
    return ranking.Merits(quality, each / plan.layout.processes, each)


def _best_of_each(found: Sequence[Alternative], used: ranking.Weights) -> list[Alternative]:
    best = dict[tuple[object, ...], Alternative]()
    scored = zip(found, ranking.scores([one.merits for one in found], used), strict=True)
    for one, score in sorted(scored, key=lambda pair: -pair[1]):
        layout = one.plan.layout
        key = (one.wanted.leaf, one.wanted.model_id, layout.processes, layout.nodes, layout.sharding)
        best.setdefault(key, replace(one, score=score))
    return list(best.values())


def _ranked(found: Sequence[Alternative], used: ranking.Weights) -> tuple[Alternative, ...]:
    merits = [one.merits for one in found]
    scores, front = ranking.scores(merits, used), ranking.front(merits)
    done = (
        replace(one, score=score, on_front=on) for one, score, on in zip(found, scores, front, strict=True)
    )
    return tuple(sorted(done, key=lambda one: (-one.score, one.plan.layout.processes, one.wanted.model_id)))


# --- reasons -----------------------------------------------------------------------------------------------------

_FREED: Final = N_("it would fit without; this way it is done sooner, or at less cost")


def _said(plan: Plan, base: Plan, case: Case) -> Iterator[tuple[tuple[str, ...], Reason, bool]]:
    """For each thing that differs from the usual plan: what the usual one would need, and whether that was too much."""
    for keys, undone, text in _undone(plan, base):
        needs, has = case.needs(undone), case.hardware.usable_bytes
        values: dict[str, str | int | float] = {
            "needs": gib(needs.process.high),
            "has": gib(has),
            "hardware": case.hardware.name,
            "dtype": plan.model.dtype,
        }
        needed = fit(needs, has) != "fits"
        yield keys, Reason(text, values, "ours") if needed else Reason(_FREED, {}, "ours"), needed


def _undone(plan: Plan, base: Plan) -> Iterator[tuple[tuple[str, ...], Plan, str]]:
    """Each difference taken back by itself: the keys, the plan without it, and the words."""
    now, usual = plan.schedule, base.schedule
    lora = plan.adaptation
    if isinstance(lora, Lora) and lora.base == "nf4":
        dense = plan.model_copy(update={"adaptation": lora.model_copy(update={"base": "dense"})})
        least = {"checkpointing": True, "micro_batch_tokens": plan.data.length_tokens}
        yield (
            ("adaptation.base",),
            with_schedule(dense, **least),
            N_("QLoRA, because LoRA in {dtype} needs {needs} and {hardware} has {has}"),
        )
    if plan.layout.sharding != "none":
        whole = plan.model_copy(update={"layout": plan.layout.model_copy(update={"sharding": "none"})})
        yield (
            ("layout.sharding",),
            whole,
            N_("divided among the devices: whole, {needs} would be needed on each, and {hardware} has {has}"),
        )
    if now.optimizer != usual.optimizer:
        yield (
            ("schedule.optimizer",),
            with_schedule(plan, optimizer=usual.optimizer),
            N_("moments in 8 bit: in full they need {needs}, and {hardware} has {has}"),
        )
    if now.checkpointing:
        yield (
            ("schedule.checkpointing", "schedule.checkpointing_layers"),
            with_schedule(plan, checkpointing=False),
            N_("activations are recomputed: keeping them needs {needs}, and {hardware} has {has}"),
        )
    if now.micro_batch_tokens < _spread_like(base, plan).schedule.micro_batch_tokens:
        yield (
            ("schedule.micro_batch_tokens", "schedule.accumulation"),
            with_schedule(plan, micro_batch_tokens=2 * now.micro_batch_tokens),
            N_("fewer tokens at once and more micro-batches a step: {needs} would not fit into {has}"),
        )
    if plan.data.length_tokens < base.data.length_tokens:
        longer = plan.model_copy(update={"data": base.data})
        yield (
            ("data.length_tokens",),
            with_schedule(longer, micro_batch_tokens=base.data.length_tokens),
            N_(
                "the longest hundredth of the rows is left out: with it {needs} are needed, {hardware} has {has}"
            ),
        )


def _spread_like(base: Plan, plan: Plan) -> Plan:
    return _spread(base.model_copy(update={"layout": plan.layout}))


def _layout_reasons(plan: Plan) -> dict[str, Reason]:
    layout = plan.layout
    if layout.processes == 1:
        return {}
    values: dict[str, str | int | float] = {"processes": layout.processes, "nodes": layout.nodes}
    found = {
        "layout.processes": Reason(
            N_("{processes} devices, each with its share of every step"), values, "ours"
        ),
        "layout.sharding": Reason(N_("each device holds the whole model: the least exchange"), {}, "ours"),
    }
    if layout.nodes > 1:
        found["layout.nodes"] = Reason(
            N_("on {nodes} computers: one does not have enough cards"), values, "ours"
        )
    return found
