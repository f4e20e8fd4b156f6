"""The answer to one record of a batch, ready for JSON: a record that cannot be estimated says why, and ends nothing."""

from dataclasses import replace
from functools import cache
from typing import Any, Final

from advisor.catalog.gpus import Hardware, hardware
from advisor.errors import AdvisorError
from advisor.estimate import time
from advisor.estimate.memory import LOWERED_BY, estimate, fit
from advisor.estimate.setup import Setup
from advisor.estimate.spec import described
from advisor.estimate.terms import KINDS, Estimate, Interval
from advisor.show import failure, timing
from advisor.text import N_, t

MILLION: Final = 1e6
"""Time is told for a million tokens, since a record does not say how many there are."""


def answer(record: object) -> dict[str, Any]:
    """Estimate one record (the fields of normalised measurements): `status` is "ok" or "unsupported"."""
    name = record.get("id") if isinstance(record, dict) else None
    known = {"id": name} if isinstance(name, str) else {}
    try:
        found = described(record)
    except AdvisorError as refusal:
        return {**known, **_refused(refusal)}
    card = _card(_text(record, "gpu"))
    try:
        done = estimate(found)
    except AdvisorError as refusal:
        return {
            **known,
            **_refused(refusal),
            "time": _time(found, card, record) if found.profile.compiled else None,
        }
    verdict = None if card is None else fit(done, card.usable_bytes)
    numbers = _numbers(done)
    if card is None and (gpu := _text(record, "gpu")):
        numbers["warnings"].append(t(N_("no card of the catalogue is called {gpu}: no verdict"), gpu=gpu))
    return {**known, **numbers, "verdict": verdict, "time": _time(found, card, record)}


def _refused(refusal: AdvisorError) -> dict[str, object]:
    said = {"reason": failure.problem(refusal), "remedy": failure.remedy(refusal), "code": refusal.code}
    return {"status": "unsupported", **said}


def _text(record: object, name: str) -> str | None:
    found = record.get(name) if isinstance(record, dict) else None
    return found if isinstance(found, str) else None


def _time(found: Setup, card: Hardware | None, record: object) -> dict[str, object] | None:
    """The time of a million tokens on the card that the record names; None where it names none that is known."""
    if card is None or not isinstance(record, dict):
        return None
    held = record.get("grad_accum")
    often = held if isinstance(held, int) and held > 0 else 1
    if (
        found.processes == 1 and record.get("sharding") == "zero3"
    ):  # nothing to divide, and the host works as if
        found = replace(found, sharding="zero3")
    return timing.data(time.timing(found, card, MILLION, accumulation=often))


def _numbers(done: Estimate) -> dict[str, Any]:
    return {
        "status": "ok",
        "peak_allocated_bytes": done.allocated,
        "tolerance": done.tolerance,
        "peak_reserved_bytes": _interval(done.reserved),
        "peak_process_bytes": _interval(done.process),
        "winner": done.winner.name,
        "lowered_by": t(LOWERED_BY[done.winner.name]),
        "candidates": dict(done.candidates),
        "breakdown": {
            kind: sum(term.bytes for term in done.winner.terms if term.kind == kind) for kind in KINDS
        },
        "profile": done.profile,
        "warnings": [t(warning) for warning in done.warnings],
    }


def _interval(found: Interval) -> dict[str, int]:
    return {"low": round(found.low), "high": round(found.high)}


@cache
def _card(name: str | None) -> Hardware | None:
    """The card of that name; None for one that the catalogue does not know, or whose memory nobody told."""
    try:
        return None if name is None else hardware(gpu=name)
    except AdvisorError:
        return None
