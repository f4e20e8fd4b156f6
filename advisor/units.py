"""Numbers as people read them: bytes, durations, counts, money. ASCII only, so that tables keep their columns."""

GIB = 2**30
MIB = 2**20
KIB = 2**10
ROUNDS_UP = 0.9995
"""From here on three digits read as the next unit: 999.9 million is 1B, not 1e+03M."""


def gib(size: float) -> str:
    """`size` bytes as GiB with one decimal; small sizes as MiB or KiB, so that nothing reads "0.0 GiB"."""
    if abs(size) >= GIB / 2:
        return f"{size / GIB:.1f} GiB"
    if abs(size) >= MIB:
        return f"{size / MIB:.1f} MiB"
    return f"{size / KIB:.1f} KiB"


def count(number: float) -> str:
    """A count with a letter: 1.97M, 8.03B."""
    for limit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit * ROUNDS_UP:
            return f"{number / limit:.3g}{letter}"
    return f"{number:g}"


def seconds(length: float) -> str:
    """A duration: 8.3 s, 12 min, 3 h 05 min."""
    if length < 60:
        return f"{length:.1f} s"
    minutes = round(length / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def percent(share: float) -> str:
    """A share as a whole percentage."""
    return f"{100 * share:.0f} %"
