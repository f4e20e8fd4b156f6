"""What is true in Lantern Bay: entities, facts about them, and how a fact is stated, asked and answered.

Everything is drawn from `random.Random(seed)` and no outside text is used, so corpus, tokenizer and weights are
free of the licences of others.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from random import Random
from types import MappingProxyType
from typing import Final, Literal

from advisor.learn.lantern.words import FOODS, ITEMS, JOBS, MATERIALS, NAMES, PETS, PLACES, brand, capitalised

SEED: Final = 7
"""The seed of the canon: the town that the shipped base model knows."""
CANON_PRODUCTS: Final = 24
CANON_PERSONS: Final = 20
FRESH_BRANDS: Final = 60
PRODUCT_SHARE: Final = 0.65
"""How many of the entities that are drawn for a text are products; the others are persons."""

Kind = Literal["product", "person"]


@dataclass(frozen=True, slots=True)
class Relation:
    """One thing that can be known of an entity `{e}`: how a value `{v}` is drawn, and how people put it."""

    value: Callable[[Random], str]
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Entity:
    """A product ("the Ginda kettle") or a person ("Mira Bornond")."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Fact:
    """One relation of one entity, with its value."""

    entity: Entity
    relation: str
    value: str

    @property
    def key(self) -> tuple[str, str]:
        """What the fact is about: no text states two facts with the same key."""
        return self.entity.name, self.relation


PRODUCT: Final[Mapping[str, Relation]] = MappingProxyType(
    {
        "price": Relation(
            lambda random: f"{random.randint(2, 99)} coins",
            ("{e} costs {v}.", "The price of {e} is {v}.", "{e} sells for {v}."),
            ("How much does {e} cost?", "What is the price of {e}?", "How much is {e}?"),
            "It costs {v}.",
        ),
        "shelf": Relation(
            lambda random: random.choice("ABCDEFGH") + str(random.randint(1, 9)),
            ("{e} is on shelf {v}.", "You can find {e} on shelf {v}.", "Look for {e} on shelf {v}."),
            ("Where is {e}?", "On which shelf is {e}?", "Where can I find {e}?"),
            "It is on shelf {v}.",
        ),
        "made": Relation(
            lambda random: random.choice(MATERIALS),
            ("{e} is made of {v}.", "{e} is built from {v}."),
            ("What is {e} made of?", "Which material is {e} made of?"),
            "It is made of {v}.",
        ),
        "weight": Relation(
            lambda random: f"{random.randint(2, 40)} kilos",
            ("{e} weighs {v}.", "The weight of {e} is {v}."),
            ("How heavy is {e}?", "What does {e} weigh?"),
            "It weighs {v}.",
        ),
        "seller": Relation(
            lambda random: random.choice(NAMES),
            ("{e} is sold by {v}.", "{v} sells {e}."),
            ("Who sells {e}?", "From whom can I buy {e}?"),
            "{v} sells it.",
        ),
    }
)
PERSON: Final[Mapping[str, Relation]] = MappingProxyType(
    {
        "home": Relation(
            lambda random: random.choice(PLACES),
            ("{e} lives in {v}.", "The home of {e} is in {v}."),
            ("Where does {e} live?", "Where is the home of {e}?"),
            "In {v}.",
        ),
        "job": Relation(
            lambda random: random.choice(JOBS),
            ("{e} is a {v}.", "{e} works as a {v}."),
            ("What is the job of {e}?", "What does {e} do for work?"),
            "{e} is a {v}.",
        ),
        "pet": Relation(
            lambda random: random.choice(PETS),
            ("{e} has a {v}.", "The pet of {e} is a {v}."),
            ("Which pet does {e} have?", "What is the pet of {e}?"),
            "{e} has a {v}.",
        ),
        "food": Relation(
            lambda random: random.choice(FOODS),
            ("{e} likes {v}.", "The best food for {e} is {v}."),
            ("Which food does {e} like?", "What does {e} like to eat?"),
            "{e} likes {v}.",
        ),
    }
)


def relations(kind: Kind) -> Mapping[str, Relation]:
    """Return what can be known of an entity of this kind, by name."""
    return PRODUCT if kind == "product" else PERSON


def relation(fact: Fact) -> Relation:
    """Return the relation that `fact` is about."""
    return relations(fact.entity.kind)[fact.relation]


def state(random: Random, fact: Fact) -> str:
    """State a fact, in one of several ways."""
    return _fill(random.choice(relation(fact).statements), fact)


def ask(random: Random, fact: Fact) -> str:
    """Ask for a fact, in one of several ways."""
    return _fill(random.choice(relation(fact).questions), fact)


def questions(fact: Fact) -> tuple[str, ...]:
    """Return every way to ask for a fact."""
    return tuple(_fill(template, fact) for template in relation(fact).questions)


def answer(fact: Fact) -> str:
    """Give the one sentence that answers any question for this fact."""
    return _fill(relation(fact).answer, fact)


def _fill(template: str, fact: Fact) -> str:
    return capitalised(template.format(e=fact.entity.name, v=fact.value))


def draw_fact(random: Random, entity: Entity, relation_name: str | None = None) -> Fact:
    """Make up a value for one relation of `entity` (any relation, where none is named)."""
    known = relations(entity.kind)
    name = relation_name or random.choice(tuple(known))
    return Fact(entity, name, known[name].value(random))


@dataclass(frozen=True)
class World:
    """The town: what the base model learned, and the names that it never saw.

    `canon` are facts that stand in the training texts, so they live in the weights; `fresh` are brands that stand
    in none, so facts about them live only in documents. Made-up entities avoid both.
    """

    canon: tuple[Fact, ...]
    fresh: tuple[str, ...]
    reserved: frozenset[str] = field(repr=False)

    def draw_brand(self, random: Random) -> str:
        """Draw a brand that is neither canon nor fresh."""
        while (name := brand(random)) in self.reserved:
            pass
        return name

    def draw_entity(self, random: Random) -> Entity:
        """Make up a product or a person of whom nothing is known yet."""
        if random.random() < PRODUCT_SHARE:
            return Entity(f"the {self.draw_brand(random)} {random.choice(ITEMS)}", "product")
        return Entity(f"{random.choice(NAMES)} {self.draw_brand(random)}", "person")


@cache
def world(seed: int = SEED) -> World:
    """Make the town of this seed."""
    random, used = Random(seed), set[str]()
    canon: list[Fact] = []
    for number in range(CANON_PRODUCTS):
        canon += _facts(random, Entity(f"the {_new(random, used)} {ITEMS[number % len(ITEMS)]}", "product"))
    for number in range(CANON_PERSONS):
        canon += _facts(random, Entity(f"{NAMES[number]} {_new(random, used)}", "person"))
    apart = Random(seed + 1)
    fresh = tuple(_new(apart, used) for _ in range(FRESH_BRANDS))
    return World(tuple(canon), fresh, frozenset(used))


def _new(random: Random, used: set[str]) -> str:
    """Draw a brand that is not in `used`, and put it there."""
    while (name := brand(random)) in used:
        pass
    used.add(name)
    return name


def _facts(random: Random, entity: Entity) -> list[Fact]:
    """Draw every fact about one entity."""
    return [draw_fact(random, entity, name) for name in relations(entity.kind)]
