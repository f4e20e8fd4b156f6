"""Memory and time as text: a bar for each method, the moments, and the terms with their arithmetic. ASCII marks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from advisor import units
from advisor.catalog.gpus import Hardware
from advisor.estimate.cheaper import Change
from advisor.estimate.memory import LOWERED_BY
from advisor.estimate.terms import Estimate, Fit, Moment
from advisor.estimate.time import Timing, Untimed
from advisor.show import timing
from advisor.text import N_, inert, t

WORDS: dict[Fit, str] = {
    "fits": N_("fits"),
    "likely": N_("likely"),
    "unlikely": N_("tight"),
    "does_not_fit": N_("no"),
}
METHODS = {
    "full": N_("all weights"),
    "last_layers": N_("last layers"),
    "lora": N_("LoRA"),
    "qlora": N_("QLoRA"),
    "qdora": N_("QDoRA"),
    "dora": N_("DoRA"),
    "lora_8bit": N_("LoRA, 8 bit"),
    "named": N_("named"),
    "bottleneck": N_("bottleneck"),
    "prefix": N_("prefix"),
    "p_tuning": N_("P-tuning"),
    "prompt_tuning": N_("soft prompt"),
    "ia3": N_("IA3"),
}
MOMENTS = {
    "loss": N_("end of the forward, in the loss"),
    "recompute": N_("backward of the last block"),
    "bwd_end": N_("end of the backward"),
    "embedding": N_("gradient of the embedding"),
    "step": N_("optimizer step"),
    "generate": N_("generating answers"),
    "load": N_("loading the model"),
}
BAR = 30
LABEL = 13


@dataclass(frozen=True, slots=True)
class Line:
    """One method: its estimate, whether it fits, and its time, of a run or of a million tokens."""

    method: str
    estimate: Estimate
    fit: Fit
    timing: Timing | Untimed
    whole: bool = False
    """Whether the time is that of the whole run."""
    changes: tuple[Change, ...] = ()
    """What would make it fit, the cheapest first."""


def text(title: str, lines: Sequence[Line], hardware: Hardware) -> str:
    """Bars of all lines; then the first one that fits (else the smallest) in detail."""
    return "\n".join((title, "", *_bars(lines, hardware), "", *_detail(_shown(lines))))


def _shown(lines: Sequence[Line]) -> Line:
    fitting = next((line for line in lines if line.fit == "fits"), None)
    return fitting or min(lines, key=lambda line: line.estimate.process.high)


def _bars(lines: Sequence[Line], hardware: Hardware) -> Iterator[str]:
    has = hardware.usable_bytes
    yield t(N_("against {has} usable on {hardware}"), has=units.gib(has), hardware=inert(hardware.name))
    for line in lines:
        high = line.estimate.process.high
        numbers = f"{units.gib(line.estimate.allocated):>10}  {units.gib(high):>10}"
        seconds = line.timing.total
        pace = f"{units.seconds(seconds.low)} - {units.seconds(seconds.high)}" if seconds else ""
        name = set_cell_size(t(METHODS.get(line.method, line.method)), LABEL)
        yield f"  {name}{bar(high / has)} {numbers}  {set_cell_size(t(WORDS[line.fit]), 8)}{pace}".rstrip()
    yield t(N_("  columns: upper bound as a bar, predicted peak, upper bound of the process, verdict"))
    if any(line.timing.total for line in lines):
        whole = any(line.whole for line in lines)
        yield (
            t(N_("  and the time of the whole run"))
            if whole
            else t(N_("  and the time for a million tokens"))
        )


def bar(share: float, width: int = BAR) -> str:
    """`share` of a bar in ASCII; more than all of it ends in ">"."""
    full = min(width, max(0, round(share * width)))
    return "#" * (width - 1) + ">" if share > 1 else "#" * full + "." * (width - full)


def _detail(line: Line) -> Iterator[str]:
    found = line.estimate
    method = t(METHODS.get(line.method, line.method))
    yield t(N_("{method}, moment by moment ({profile}):"), method=method, profile=found.profile)
    for moment in found.moments:
        mark = "*" if moment is found.winner else " "
        yield f"  {mark} {set_cell_size(t(MOMENTS[moment.name]), 34)}{units.gib(moment.bytes):>10}"
    yield ""
    yield t(N_("alive at the peak:"))
    yield from _terms(found.winner)
    yield ""
    yield t(N_("what would lower it: {change}"), change=t(LOWERED_BY[found.winner.name]))
    yield from _changes(line)
    low, high = units.gib(found.process.low), units.gib(found.process.high)
    yield t(N_("the whole process: {low} to {high}"), low=low, high=high)
    for warning in found.warnings:
        yield t(N_("note: ")) + t(warning)
    yield ""
    if not line.whole:
        yield t(N_("for a million tokens:"))
    yield from timing.text(line.timing)
    yield from timing.step(line.timing)


def _changes(line: Line) -> Iterator[str]:
    if line.changes:
        yield t(N_("it would fit with:"))
    for change in line.changes:
        words = "; ".join(t(text) for text in change.texts)
        yield f"  {units.gib(change.estimate.process.high):>10}  {words}"


def _terms(moment: Moment) -> Iterator[str]:
    names = {term.name: t(term.name) for term in moment.terms}
    width = max(cell_len(name) for name in names.values()) + 2
    for term in moment.terms:
        name = set_cell_size(names[term.name], width)
        yield f"    {name}{units.gib(term.bytes):>10}  {inert(term.arithmetic)}"
