"""Customer messages of Lantern Bay, and the many ways in which their fields can be written down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Final

from advisor.learn.lantern.words import COLOURS, FAULTS, ITEMS, NAMES, PLACES, with_article

HELLOS: Final = ("Hello,", "Hi,", "Good morning,", "Hello there,", "Good evening,", "Dear shop,")
INTRODUCTIONS: Final = (
    "this is {name} from {place}.",
    "I am {name} and I live in {place}.",
    "my name is {name}, from {place}.",
)
COMPLAINTS: Final = (
    "My {colour} {item} {fault}.",
    "The {colour} {item} I bought {fault}.",
    "I bought a {colour} {item} and it {fault}.",
)
RUSHES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "high": ("I need it today.", "Please hurry.", "This is urgent.", "Please help me right now."),
        "low": ("There is no rush.", "Take your time.", "I can wait.", "It is not urgent."),
    }
)
RUSH_SHARE: Final = 0.75
"""How many customers say at all how urgent it is; one in three of them is in a hurry."""

FIELDS: Final = ("name", "item", "colour", "fault", "urgent", "place")
QUESTIONS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "name": ("Who wrote this?", "What is the name of the customer?"),
        "item": ("Which item is this about?", "What did the customer buy?"),
        "colour": ("Which colour is the item?", "What colour is it?"),
        "fault": ("What is wrong with the item?", "What is the problem?"),
        "urgent": ("Is it urgent?", "Is the customer in a hurry?"),
        "place": ("Where does the customer live?", "Where is the customer from?"),
    }
)
NOUNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "name": "the name",
        "item": "the item",
        "colour": "the colour",
        "fault": "the fault",
        "urgent": "the urgency",
        "place": "the place",
    }
)
KEYS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "name": ("name", "who", "customer"),
        "item": ("item", "thing", "product"),
        "colour": ("colour", "paint"),
        "fault": ("fault", "problem", "issue"),
        "urgent": ("urgent", "rush", "hurry"),
        "place": ("place", "home", "street"),
    }
)


@dataclass(frozen=True, slots=True)
class Message:
    """A customer's message and what it says, by the names in `FIELDS`; `urgent` is "yes" or "no"."""

    text: str
    said: Mapping[str, str]


def draw_message(random: Random) -> Message:
    """Make up one message."""
    name, item, colour = random.choice(NAMES), random.choice(ITEMS), random.choice(COLOURS)
    fault = random.choice(tuple(FAULTS))
    rush = random.choice(("high", "low", "low")) if random.random() < RUSH_SHARE else "normal"
    place = random.choice(PLACES)
    trouble = random.choice(FAULTS[fault])
    sentences = [
        random.choice(HELLOS),
        random.choice(INTRODUCTIONS).format(name=name, place=place),
        random.choice(COMPLAINTS).format(colour=colour, item=item, fault=trouble),
    ]
    if rush != "normal":
        sentences.append(random.choice(RUSHES[rush]))
    urgent = "yes" if rush == "high" else "no"
    said = {"name": name, "item": item, "colour": colour, "fault": fault, "urgent": urgent, "place": place}
    return Message(with_article(" ".join(sentences)), MappingProxyType(said))


SEPARATORS: Final = (", ", " / ", " - ", "; ", " | ", " + ", " & ", " > ", ", ")
BRACKETS: Final = (
    ("", ""),
    ("(", ")"),
    ("[", "]"),
    ("<", ">"),
    ("*", "*"),
    ("# ", ""),
    ("", "."),
    ("= ", ""),
    ("~ ", " ~"),
    ("{", "}"),
    ("{", "}"),
)
ASSIGNMENTS: Final = (None, None, ": ", "=", " is ", " -> ", ":", ": ")
"""Between a key and its value; None writes the value without a key."""
QUOTES: Final = ("", "", "", '"', '"', "'")


@dataclass(frozen=True, slots=True)
class Form:
    """A way to write fields on one line."""

    separator: str
    opening: str
    closing: str
    assignment: str | None
    quote: str
    key_quote: str

    @property
    def is_ticket_json(self) -> bool:
        """JSON as people write it, a space after the colon: no training text shows it, for the ticket task asks for it."""
        return (self.opening, self.assignment, self.key_quote) == ("{", ": ", '"')


def draw_form(random: Random) -> Form:
    """Draw a form that is not the JSON of a ticket."""
    while True:
        separator = random.choice(SEPARATORS)
        opening, closing = random.choice(BRACKETS)
        assignment, quote = random.choice(ASSIGNMENTS), random.choice(QUOTES)
        key_quote = random.choice(("", "", quote, '"'))
        form = Form(separator, opening, closing, assignment, quote, key_quote)
        if not form.is_ticket_json:
            return form


def render(message: Message, fields: Sequence[str], form: Form, keys: Mapping[str, str]) -> str:
    """Write `fields` of `message` in this form."""
    return form.opening + form.separator.join(_part(message, f, form, keys[f]) for f in fields) + form.closing


def _part(message: Message, field: str, form: Form, key: str) -> str:
    value = f"{form.quote}{message.said[field]}{form.quote}"
    return (
        value if form.assignment is None else f"{form.key_quote}{key}{form.key_quote}{form.assignment}{value}"
    )
