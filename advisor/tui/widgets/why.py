"""The reason for a question and an everyday picture of it."""

from textual.containers import VerticalScroll
from textual.widget import Widget

from advisor.text import N_, t
from advisor.tui.widgets.prose import Prose


class Why(VerticalScroll, can_focus=False):
    """A panel with a reason and an analogy; either may be missing."""

    def __init__(self, reason: str, analogy: str = "", id: str | None = None) -> None:
        super().__init__(*self._parts(reason, analogy), id=id, classes="panel")
        self.border_title = t(N_("Why we ask"))

    @staticmethod
    def _parts(reason: str, analogy: str) -> list[Widget]:
        parts: list[Widget] = [Prose(reason)] if reason else []
        picture = [Prose((t(N_("Think of it like this: ")), "bold"), analogy)] if analogy else []
        return [*parts, *picture]
