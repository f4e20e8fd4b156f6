"""The answer to one record of a batch, ready for JSON: a record that cannot be estimated says why, and ends nothing."""

from functools import cache
from typing import Any

from advisor.catalog.gpus import hardware
from advisor.errors import AdvisorError
from advisor.estimate.memory import LOWERED_BY, estimate, fit
from advisor.estimate.spec import described
from advisor.estimate.terms import KINDS, Estimate, Interval
from advisor.show import failure
from advisor.text import t


def answer(record: object) -> dict[str, Any]:
    """Estimate one record (the fields of normalised measurements): `status` is "ok" or "unsupported"."""
    name = record.get("id") if isinstance(record, dict) else None
    known = {"id": name} if isinstance(name, str) else {}
    try:
        found = described(record)
        done = estimate(found)
    except AdvisorError as refusal:
        said = {"reason": failure.problem(refusal), "remedy": failure.remedy(refusal), "code": refusal.code}
        return {**known, "status": "unsupported", **said}
    card = record.get("gpu") if isinstance(record, dict) else None
    usable = _usable(card) if isinstance(card, str) else None
    return {**known, **_numbers(done), "verdict": None if usable is None else fit(done, usable)}


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
def _usable(card: str) -> int | None:
    """What a program can have on a card; None for one that the catalogue does not know."""
    try:
        return hardware(gpu=card).usable_bytes
    except AdvisorError:
        return None
