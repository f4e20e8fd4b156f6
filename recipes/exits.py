"""How a process ends: the exit codes that advisor and trainers share."""

from enum import IntEnum


class Exit(IntEnum):
    """One code, one meaning; sysexits and shell conventions where they exist (75, 130, 143)."""

    OK = 0
    """Done, and what was asked for is on disk. "Do not train" is an answer, so it is 0."""
    NO = 1
    """It ran, and the answer is no: findings in a usable file, an evaluation below its threshold."""
    USAGE = 2
    """Wrong usage or an invalid recipe."""
    DATASET = 3
    """The dataset cannot be parsed, or no example is left."""
    ENVIRONMENT = 4
    """Nothing fits, no GPU, a missing package, out of memory, disk full."""
    GUARD = 5
    """A guard stopped the run: the loss became NaN, it diverged."""
    REFUSED = 6
    """Refused for trust: pickled weights, code that nobody consented to."""
    BUSY = 75
    """Another run holds the directory; try again later."""
    BUG = 101
    """Our fault: the crash file is named, never a bare traceback."""
    INTERRUPTED = 130
    """A person stopped it; the step is saved."""
    TERMINATED = 143
    """The system stopped it; the step is saved."""
