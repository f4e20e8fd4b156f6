"""The resident set of this process, as the kernel counts it; without torch, so that a heartbeat can tell it."""

import resource
import sys
import threading
from pathlib import Path
from typing import Final

STATUS: Final = Path("/proc/self/status")
CLEAR: Final = Path("/proc/self/clear_refs")
RESET_PEAK: Final = "5"
"""What proc(5) wants in `clear_refs` to set VmHWM back to the present resident set."""
SAMPLE_SECONDS: Final = 0.02


def rss() -> int:
    """Resident set now, in bytes."""
    return _status("VmRSS") or _peak_since_start()


class Watch:
    """The peak of the resident set from now on: kept by the kernel, or sampled where it cannot be reset."""

    def __init__(self) -> None:
        self._sampler = None if _reset() else _Sampler()

    def read(self) -> int:
        """Bytes at the peak so far."""
        return self._sampler.read() if self._sampler else _status("VmHWM") or rss()


class _Sampler:
    """Look at the resident set many times a second."""

    def __init__(self) -> None:
        self._peak = rss()
        threading.Thread(target=self._look, name="resident-set", daemon=True).start()

    def _look(self) -> None:
        pause = threading.Event()
        while not pause.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, rss())

    def read(self) -> int:
        return max(self._peak, rss())


def _reset() -> bool:
    try:
        CLEAR.write_text(RESET_PEAK)
    except OSError:
        return False
    return _status("VmHWM") is not None


def _status(name: str) -> int | None:
    """One line of `/proc/self/status` in bytes; None where there is no such file."""
    try:
        text = STATUS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _peak_since_start() -> int:
    """The best that POSIX knows: kilobytes, but bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
