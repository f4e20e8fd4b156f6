"""The examples to learn from: a file, what was found in it, and where."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Input

from advisor.data.checks import check
from advisor.data.convert import Converted, convert
from advisor.data.findings import Finding, Level
from advisor.text import N_, n, t
from advisor.tui.screens.page import Page
from advisor.tui.widgets.prose import Prose, Styled
from recipes.errors import Failure
from recipes.rows import Row

SHOWN = 50
"""More findings than this nobody reads; their number is still told."""
SHOWN_CHARACTERS = 300
"""Of each message of the first row."""
EXAMPLE_LINES = (
    '{"prompt": "Where is my parcel?", "completion": "Good day! It arrives tomorrow."}',
    '{"instruction": "Sum up.", "input": "...", "output": "..."}',
    '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}',
)
ROLES = {"system": N_("system"), "user": N_("input"), "assistant": N_("ideal answer")}
MARKS: dict[Level, tuple[str, str]] = {
    "error": ("✗", "$text-error"),
    "warning": ("!", "$text-warning"),
    "info": ("-", "dim"),
}


@dataclass(frozen=True, slots=True)
class Dataset:
    """A file that was read."""

    path: Path
    converted: Converted


class DataScreen(Page[Dataset]):
    """Ask for a file; reading it is the first thing one wants to know about it."""

    GUIDE = N_(
        "Type the path of your examples and press Enter: the file is read and checked. Enter again takes it; nothing is changed in it."
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "accept", N_("Use it"), id="accept")]

    def __init__(self, dataset: Dataset | None) -> None:
        super().__init__()
        self.dataset = dataset

    def title_text(self) -> str:
        """Name the step."""
        return t(N_("Your examples"))

    def body(self) -> Iterator[Widget]:
        """Yield the field and what was found."""
        yield Prose(
            t(
                N_(
                    "A file with inputs and ideal answers: JSON Lines, JSON, CSV, TSV, Parquet or text. It is only "
                    "read; part of it is held out before training, to judge what was learned."
                )
            ),
            id="intro",
        )
        yield Input(
            str(self.dataset.path) if self.dataset else "",
            placeholder=t(N_("path of the file; Enter reads it")),
            id="path",
        )
        with VerticalScroll(id="found", can_focus=False):
            yield Prose(id="findings", hang=2)
            yield Prose(*_example(), id="row", hang=2)

    def fill(self) -> None:
        """Show what is known of the file."""
        self.query_one("#path").focus()
        if self.dataset:
            self._show(self.dataset.converted)

    @on(Input.Submitted)
    def submitted(self, event: Input.Submitted) -> None:
        """Enter reads the file; Enter again, when nothing was changed, takes it."""
        path = Path(event.value.strip()).expanduser()
        if self.dataset and path == self.dataset.path:
            self.dismiss(self.dataset)
        elif event.value.strip():
            self.query_one("#findings", Prose).say(t(N_("reading ...")))
            self.read(path)

    @work(thread=True, exclusive=True)
    def read(self, path: Path) -> None:
        """Read the file beside the screen: it may be large."""
        try:
            converted = convert(path)
        except Failure as failure:
            self.app.call_from_thread(self._refuse, failure)
        else:
            self.app.call_from_thread(self._accept, Dataset(path, converted))

    def _accept(self, dataset: Dataset) -> None:
        self.dataset = dataset
        if not self.rebuilding:
            self._show(dataset.converted)
        self.refresh_bindings()

    def _refuse(self, failure: Failure) -> None:
        self.dataset = None
        if self.rebuilding:
            return
        self.query_one("#row", Prose).say(*_example())
        self.query_one("#findings", Prose).say(
            ("✗ ", "$text-error"),
            (t(failure.problem, **failure.values), "bold"),
            f"\n{failure.where}" if failure.where else "",
            f"\n{t(failure.remedy, **failure.values)}" if failure.remedy else "",
        )
        self.refresh_bindings()

    def _show(self, converted: Converted) -> None:
        found = (*converted.findings, *check(converted.rows))
        rows = n("{count} row", "{count} rows", len(converted.rows))
        lines: list[Styled] = [
            ("✓ ", "$text-success"),
            t(
                N_("{rows}, format {format}. Press Enter again to use them."),
                rows=rows,
                format=converted.format,
            ),
        ]
        for finding in found[:SHOWN]:
            lines += _finding(finding)
        if len(found) > SHOWN:
            lines.append("\n" + t(N_("... and {more} more"), more=len(found) - SHOWN))
        self.query_one("#findings", Prose).say(*lines)
        self.query_one("#row", Prose).say(*_first(converted.rows))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only a file that was read can be used."""
        return self.dataset is not None if action == "accept" else True

    def action_accept(self) -> None:
        """Use the file."""
        self.dismiss(self.dataset)


def _example() -> Iterator[Styled]:
    """What a file may look like, for whoever has none yet."""
    yield (t(N_("A line of such a file, for example:")), "bold")
    for line in EXAMPLE_LINES:
        yield f"\n- {line}"


def _first(rows: Sequence[Row]) -> Iterator[Styled]:
    """The first row as it was understood: the quickest way to see a wrong column."""
    if rows:
        yield (t(N_("The first row, as it was understood:")), "bold")
        for turn in rows[0].messages:
            text = " ".join(turn.content.split())
            yield ("\n" + t(ROLES[turn.role]) + t(N_(": ")), "$text-primary")
            yield text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _finding(finding: Finding) -> list[tuple[str, str]]:
    mark, style = MARKS[finding.level]
    return [
        ("\n" + f"{mark} {finding.code} ", style),
        (f"{finding.place}  ", "dim"),
        (t(finding.message, **finding.values), ""),
    ]
