"""Time and money as JSON and in words."""

from collections.abc import Iterator
from typing import Final

from advisor import units
from advisor.estimate.terms import Interval
from advisor.estimate.time import Timing, Untimed
from advisor.text import N_, inert, t

LIMITS: Final = {
    "arithmetic": N_("most of the time goes into matrix products"),
    "bandwidth": N_("most of the time goes into reading and writing memory"),
    "launches": N_("the card waits for its host: more tokens at once would be free"),
    "exchange": N_("the cards wait for each other"),
}


def data(found: Timing | Untimed) -> dict[str, object]:
    """Everything that is known of the time of a run; or null, with the reason."""
    if isinstance(found, Untimed):
        return {"seconds": None, "untimed": t(found.text, **found.values)}
    return {
        "seconds": bounds(found.total),
        "seconds_per_micro_batch": {"expected": found.expected, **bounds(found.micro_batch)},
        "seconds_per_step": bounds(found.step),
        "tokens_per_second": bounds(found.tokens_per_second),
        "limited_by": found.limited_by,
        "energy_kwh": found.energy_kwh and bounds(found.energy_kwh),
        "rent_usd": found.rent_usd and bounds(found.rent_usd),
        "rent_date": found.rent_date,
    }


def bounds(found: Interval) -> dict[str, float]:
    """An interval for JSON."""
    return {"low": found.low, "high": found.high}


def text(found: Timing | Untimed) -> Iterator[str]:
    """What is known of the time of a run, or the reason why nothing is; a line each."""
    if isinstance(found, Untimed):
        yield t(N_("time   not known: {reason}"), reason=inert(t(found.text, **found.values)))
        return
    low, high = units.seconds(found.total.low), units.seconds(found.total.high)
    yield t(N_("time   {low} to {high} of training"), low=low, high=high)
    pace = found.tokens_per_second
    yield t(N_("pace   {low} to {high} tokens a second"), low=f"{pace.low:,.0f}", high=f"{pace.high:,.0f}")
    if found.energy_kwh:
        used = found.energy_kwh
        yield t(N_("energy {low} to {high} kWh"), low=f"{used.low:.2f}", high=f"{used.high:.2f}")
    if found.rent_usd:
        paid = found.rent_usd
        values = {"low": f"{paid.low:.2f}", "high": f"{paid.high:.2f}", "date": found.rent_date or "?"}
        yield t(N_("rent   {low} to {high} USD at prices of {date}"), **values)


def step(found: Timing | Untimed) -> Iterator[str]:
    """One step, and what takes most of it; nothing where no time is known."""
    if isinstance(found, Timing):
        low, high = units.seconds(found.step.low), units.seconds(found.step.high)
        yield t(N_("step   {low} to {high}; {limit}"), low=low, high=high, limit=t(LIMITS[found.limited_by]))
