"""What a person wants of a run: files in `control/`, which work over SSH, and signals."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import Final

from recipes.exits import Exit

IMPATIENT_SECONDS: Final = 5.0
"""A second Ctrl+C within this time means now, not after the step."""
LOOK_SECONDS: Final = 0.2
"""How often a paused run looks whether it may go on."""


class Wish(IntEnum):
    """What is wanted at the next step; the largest wins."""

    NONE = 0
    EVALUATE = 1
    PAUSE = 2
    STOP = 3
    TERMINATE = 4


class Stopped(Exception):
    """The run ends because somebody wished so."""

    def __init__(self, wish: Wish, reason: str, step: int = 0) -> None:
        self.wish, self.reason, self.step = wish, reason, step
        self.exit = Exit.TERMINATED if wish is Wish.TERMINATE else Exit.INTERRUPTED
        super().__init__(reason)


class Control:
    """The wishes of one run.

    `pause` holds as long as its file is there; `stop` and `evaluate` are removed when they are obeyed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._signal: Wish = Wish.NONE
        self._interrupted: float | None = None

    def wish(self) -> Wish:
        """The present wish."""
        if self._signal is not Wish.NONE:
            return self._signal
        for name, wish in (("stop", Wish.STOP), ("pause", Wish.PAUSE), ("evaluate", Wish.EVALUATE)):
            if (self._directory / name).exists():
                return wish
        return Wish.NONE

    def obeyed(self, wish: Wish) -> None:
        """Take the wish back: it was done."""
        if wish in (Wish.STOP, Wish.EVALUATE):
            (self._directory / wish.name.lower()).unlink(missing_ok=True)

    def reason(self, wish: Wish) -> str:
        """Where a wish to end came from."""
        if wish is Wish.TERMINATE:
            return "SIGTERM"
        return "SIGINT" if self._interrupted is not None else "stop"

    def check(self, step: int = 0, together: Callable[[int], int] | None = None) -> None:
        """Outside the loop there is no step to finish: end here if that is wished.

        Args:
            step: How far the run is.
            together: What all processes wish, of what each one does; None where only this one is here.

        Raises:
            Stopped: It is.
        """
        wish = Wish(together(self.wish())) if together else self.wish()
        if wish >= Wish.STOP:
            self.obeyed(wish)
            raise Stopped(wish, self.reason(wish), step)

    def _interrupt(self, _: int, __: FrameType | None) -> None:
        now = time.monotonic()
        if self._interrupted is not None and now - self._interrupted < IMPATIENT_SECONDS:
            raise KeyboardInterrupt
        self._interrupted, self._signal = now, max(self._signal, Wish.STOP)

    def _terminate(self, _: int, __: FrameType | None) -> None:
        self._signal = Wish.TERMINATE


@contextmanager
def listening(directory: Path) -> Iterator[Control]:
    """Hear signals and files; the handlers of before come back at the end."""
    control = Control(directory)
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, control._interrupt),
        signal.SIGTERM: signal.signal(signal.SIGTERM, control._terminate),
    }
    try:
        yield control
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
