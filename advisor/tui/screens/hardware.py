"""The card and the model: detected, chosen from the catalogue or typed; below them, what would fit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Input

from advisor.catalog.gpus import Hardware, gpus, hardware
from advisor.catalog.models import ModelShape, model, models
from advisor.decide.answers import Origin
from advisor.show.failure import problem
from advisor.text import N_, t
from advisor.tui.screens.page import Page
from advisor.tui.widgets.choices import Choices
from advisor.tui.widgets.memory_bar import MemoryBars, Need
from advisor.tui.widgets.prose import Prose, Styled
from advisor.units import count, gib
from recipes.errors import Failure


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a run would use."""

    hardware: Hardware
    model: ModelShape
    origin: Origin = "hardware"
    """Where we have the size of the card from."""


Item = TypeVar("Item", Hardware, ModelShape)
Needs = Callable[[ModelShape, Hardware], Sequence[Need]]
"""What each way of training would need there; given by the tour, so that the screen computes nothing."""


class HardwareScreen(Page[Equipment]):
    """Ask for a card and a model; the bars follow what is highlighted."""

    GUIDE = N_(
        "Choose the card, then the model. Type a size in GB or part of a name to narrow a list; the bars show what each way of training needs of that card."
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("slash", "search", N_("Search"), id="search")]

    def __init__(self, equipment: Equipment | None, needs: Needs) -> None:
        super().__init__()
        self.equipment, self.needs = equipment, needs
        self.detected = hardware()
        self.cards: tuple[Hardware, ...] = ()
        self.shapes: tuple[ModelShape, ...] = ()

    def title_text(self) -> str:
        """Name the step."""
        return t(N_("Hardware and model"))

    def body(self) -> Iterator[Widget]:
        """Yield the two lists, each below the field that searches it, and the bars."""
        with Horizontal(id="pickers"):
            with Vertical(classes="panel", id="card") as card:
                card.border_title = t(N_("Card"))
                yield Input(placeholder=t(N_("GB, or a name")), id="card_search")
                yield Choices([], id="cards")
            with Vertical(classes="panel", id="shape") as shape:
                shape.border_title = t(N_("Model"))
                yield Input(
                    placeholder=t(N_("part of a name, or a directory of this computer")), id="model_search"
                )
                yield Choices([], id="models")
        with Vertical(classes="panel", id="memory") as memory:
            memory.border_title = t(N_("Memory, by way of training"))
            yield Prose(id="against")
            yield MemoryBars(id="bars")

    def fill(self) -> None:
        """List everything; what was chosen before comes first."""
        self._list_cards("")
        self._list_models("")
        self.query_one("#cards").focus()

    @on(Input.Changed, "#card_search")
    def search_card(self, event: Input.Changed) -> None:
        """Narrow the list of cards."""
        self._list_cards(event.value.strip())

    @on(Input.Changed, "#model_search")
    def search_model(self, event: Input.Changed) -> None:
        """Narrow the list of models."""
        self._list_models(event.value.strip())

    def action_search(self) -> None:
        """Go from a list to the field above it."""
        self.query_one("#model_search" if self.query_one("#models").has_focus else "#card_search").focus()

    @on(Input.Submitted)
    def to_list(self, event: Input.Submitted) -> None:
        """Go from a field to its list, unless there is nothing to choose from."""
        target = self.query_one("#cards" if event.input.id == "card_search" else "#models", Choices)
        if target.option_count:
            target.focus()

    def _list_cards(self, text: str) -> None:
        before = (self.equipment.hardware,) if self.equipment and not text else ()
        self.cards = _unique(*before, *_cards(text, self.detected))
        self.query_one("#cards", Choices).replace([_card_label(card, self.detected) for card in self.cards])
        self._show_bars()

    def _list_models(self, text: str) -> None:
        before = (self.equipment.model,) if self.equipment and not text else ()
        self.shapes = _unique(*before, *_models(text))
        self.query_one("#models", Choices).replace([_model_label(shape) for shape in self.shapes])
        self._show_bars()

    async def speak(self) -> None:
        """Say everything again; what was highlighted comes first then."""
        self.equipment = self._highlighted() or self.equipment
        await super().speak()

    @on(Choices.OptionHighlighted)
    def _show_bars(self) -> None:
        if self.rebuilding:
            return
        equipment, against = self._highlighted(), self.query_one("#against", Prose)
        if equipment is None:
            against.say(*self._nothing())
            self.query_one("#bars", MemoryBars).show((), 0)
            return
        card = equipment.hardware
        try:
            needs = tuple(self.needs(equipment.model, card))
        except Failure as failure:
            needs = ()
            against.say(("? ", "$text-warning"), t(failure.problem, **failure.values))
        else:
            against.say(
                t(
                    N_("{model} on {card}; | is the end of its {size} usable"),
                    model=equipment.model.name,
                    card=card.name,
                    size=gib(card.usable_bytes),
                )
            )
        self.query_one("#bars", MemoryBars).show(needs, card.usable_bytes)

    def _nothing(self) -> Iterator[Styled]:
        """Why one of the lists is empty, and what to type instead."""
        card, model = (self.query_one(f"#{name}_search", Input).value.strip() for name in ("card", "model"))
        if not self.cards:
            yield ("✗ ", "$text-error")
            yield t(
                N_(
                    "no card is meant by {typed!r}: a size is a number of GB, such as 24; else part of a name"
                ),
                typed=card,
            )
        elif not self.shapes:
            yield ("✗ ", "$text-error")
            yield self._refused(model) or t(
                N_("no model is meant by {typed!r}: part of a name, or a directory with a config.json"),
                typed=model,
            )

    @staticmethod
    def _refused(text: str) -> str:
        """What is wrong with the directory that was typed; nothing where it is none."""
        if not Path(text).is_dir():
            return ""
        try:
            model(text)
        except Failure as failure:
            return problem(failure)
        return ""

    def _highlighted(self) -> Equipment | None:
        card = self.query_one("#cards", Choices).highlighted
        shape = self.query_one("#models", Choices).highlighted
        if card is None or shape is None or not self.cards or not self.shapes:
            return None
        return Equipment(self.cards[card], self.shapes[shape], self._origin(self.cards[card]))

    def _origin(self, card: Hardware) -> Origin:
        if card == self.detected:
            return "detected"
        return "hardware" if card.gpu else "person"

    @on(Choices.OptionSelected, "#cards")
    def card_chosen(self) -> None:
        """Go on to the model."""
        self.query_one("#models").focus()

    @on(Choices.OptionSelected, "#models")
    def model_chosen(self) -> None:
        """Both are known."""
        self.dismiss(self._highlighted())


def _cards(text: str, detected: Hardware) -> Iterator[Hardware]:
    """What `text` may mean: a size in GB, or part of a name; all cards with a known size when it is empty."""
    try:
        if text:
            yield hardware(vram_gb=float(text))
    except (ValueError, Failure):  # not a number, or no size of a card: then it is a name
        pass
    if not text:
        yield detected
    yield from (
        hardware(gpu=name)
        for name, row in gpus().items()
        if row.usable_bytes and text.casefold() in name.casefold()
    )


def _models(text: str) -> Iterator[ModelShape]:
    """What `text` may mean: a directory with a model, or part of a name of the catalogue."""
    if text and Path(text).is_dir():
        try:
            yield model(text)
        except Failure:  # a directory that one has not finished typing
            return
    yield from (shape for name, shape in models().items() if text.casefold() in name.casefold())


def _unique(*items: Item) -> tuple[Item, ...]:
    return tuple(dict.fromkeys(items))


def _card_label(card: Hardware, detected: Hardware) -> str:
    here = t(N_("this computer: ")) if card == detected else ""
    return f"{here}{card.name}  {gib(card.usable_bytes)}"


def _model_label(shape: ModelShape) -> str:
    size = f"  {count(shape.published_parameters)}" if shape.published_parameters else ""
    return f"{shape.name}{size}"
