"""Time and money as JSON, and what takes most of the time in words."""

from typing import Final

from advisor.estimate.terms import Interval
from advisor.estimate.time import Timing, Untimed
from advisor.text import N_, t

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
