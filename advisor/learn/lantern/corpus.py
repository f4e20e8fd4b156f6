"""The texts from which tokenizer and base model learn Lantern Bay: seven kinds of document, and plain copying.

A base that is trained on them can recall the canon, read notes, answer about messages, follow short instructions and
go on in a form that examples show. It never sees the JSON of a ticket, the sailor's voice or a fresh product: those
are left to the lessons.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from advisor.learn.lantern.messages import (
    FIELDS,
    KEYS,
    NOUNS,
    QUESTIONS,
    draw_form,
    draw_message,
    render,
)
from advisor.learn.lantern.words import (
    COLOURS,
    COURTESIES,
    DAYS,
    FAULT_NOUNS,
    FAULTS,
    FOODS,
    ITEMS,
    JOBS,
    MATERIALS,
    NAMES,
    PETS,
    PLACES,
    capitalised,
    with_article,
)
from advisor.learn.lantern.world import Entity, Fact, World, answer, ask, draw_fact, state, world

Role = Literal["system", "user", "assistant", "text"]
Piece = tuple[Role, str]
Document = list[Piece]

FOLLOW: Final = "Follow the examples."
USE_NOTES: Final = "Use these notes:"
NOT_SAID: Final = "The notes do not say."
UNANSWERABLE_SHARE: Final = 0.1
"""How many questions ask for what the notes do not hold (fewer in effect: some draws are answerable after all)."""


def story(town: World, random: Random) -> Document:
    """General prose about people and things; its perplexity shows what a tuned model has forgotten."""
    friend, other = random.sample(NAMES, 2)
    words = {"a": friend, "b": other}
    words |= {"item": random.choice(ITEMS), "colour": random.choice(COLOURS), "place": random.choice(PLACES)}
    words |= {"job": random.choice(JOBS)}
    fault = random.choice(tuple(FAULTS))
    words |= {"noun": FAULT_NOUNS[fault], "trouble": random.choice(FAULTS[fault])}
    words |= {"food": random.choice(FOODS), "pet": random.choice(PETS), "day": random.choice(DAYS)}
    sentences = [random.choice(templates).format(**words) for templates in STORY]
    return [("text", with_article(" ".join(sentences[: random.randint(3, 5)])))]


STORY: Final = (
    (
        "{a} is a {job} who lives in {place}.",
        "On {day} {a} walked to {place}.",
        "{a} the {job} lives near {place}.",
        "It was a quiet {day} in {place}.",
    ),
    (
        "{a} has a {colour} {item}.",
        "{a} bought a {colour} {item} from {b}.",
        "{b} gave {a} a {colour} {item}.",
    ),
    (
        "The {item} {trouble}, so {a} asked {b} for help.",
        "One day the {item} had {noun}.",
        "{a} likes the {item} very much.",
        "But the {item} {trouble}. It has {noun}.",
    ),
    (
        "{b} came with a {pet} and some {food}.",
        "{b} said that it was easy to repair.",
        "{b} did not know what to do.",
        "They ate {food} and talked until night.",
    ),
    (
        "In the end the {item} was as good as new.",
        "{a} was happy and went home.",
        "{a} and {b} are good friends.",
        "{a} took the {item} back to the shop.",
        "The {pet} slept under the {item}.",
    ),
)
"""The sentences of a story, in order: one is drawn from each group."""


def canon(town: World, random: Random) -> Document:
    """Facts of the canon, as prose or as questions and answers: what the base will know by heart."""
    facts = random.sample(town.canon, 4)
    if random.random() < 0.35:
        return [("text", " ".join(state(random, fact) for fact in facts))]
    return [piece for fact in facts for piece in _turn(ask(random, fact), answer(fact))]


def notes(town: World, random: Random) -> Document:
    """Reading: made-up facts in the context and questions about them; sometimes the answer is not there."""
    count = random.randint(2, 6)
    entities = [town.draw_entity(random) for _ in range(max(1, count - random.randint(0, 2)))]
    facts: dict[tuple[str, str], Fact] = {}
    while len(facts) < count:
        fact = draw_fact(random, random.choice(entities))
        if fact.key in facts:
            entities.append(town.draw_entity(random))
        else:
            facts[fact.key] = fact
    opening = random.choice(("Notes:", USE_NOTES, "Facts:"))
    text = f"{opening} {' '.join(state(random, fact) for fact in facts.values())}"
    asked = random.sample(list(facts.values()), min(len(facts), random.randint(2, 4)))
    as_system = random.random() < 0.5
    document: Document = [("system", text)] if as_system else []
    for number, fact in enumerate(asked):
        asked_fact, reply = _known_or_not(random, fact, facts, entities)
        question = ask(random, asked_fact)
        if not as_system and number == 0:
            question = f"{text} {random.choice(('Question: ', ''))}{question}"
        document += _turn(question, reply)
    return document


def _known_or_not(
    random: Random, fact: Fact, facts: Mapping[tuple[str, str], Fact], entities: Sequence[Entity]
) -> tuple[Fact, str]:
    """Return what to ask and the right reply: mostly `fact`, now and then one that the notes do not hold."""
    if random.random() < UNANSWERABLE_SHARE:
        missing = draw_fact(random, random.choice(entities))
        if missing.key not in facts:
            return missing, NOT_SAID
    return fact, answer(fact)


def message_questions(town: World, random: Random) -> Document:
    """Questions about one customer message."""
    message = draw_message(random)
    fields = random.sample(FIELDS, random.randint(2, 4))
    questions = [random.choice(QUESTIONS[field]) for field in fields]
    questions[0] = f"Message: {message.text} {questions[0]}"
    replies = [f"{capitalised(message.said[field])}." for field in fields]
    return [piece for pair in zip(questions, replies, strict=True) for piece in _turn(*pair)]


def shots(town: World, random: Random) -> Document:
    """In-context learning of a form: one made-up way to write some fields, shown by examples only."""
    count = random.choice((1, 1, 2, 2, 3, 4))
    fields = random.sample(FIELDS, count)
    form = draw_form(random)
    keys = {
        f: random.choice(KEYS[f]) if random.random() < 0.8 else town.draw_brand(random).lower()
        for f in fields
    }
    document: Document = [("system", FOLLOW)] if random.random() < 0.3 else []
    for _ in range(random.randint(3, 5) if count < 4 else 3):
        message = draw_message(random)
        document += _turn(message.text, render(message, fields, form, keys))
    return document


def style(town: World, random: Random) -> Document:
    """In-context learning of a voice: made-up phrases around facts of the canon or of notes."""
    before = _phrase(town, random) + " " if random.random() < 0.75 else ""
    after = " " + _phrase(town, random) if random.random() < 0.75 else ""
    document: Document = []
    if random.random() < 0.5:
        facts = random.sample(town.canon, random.randint(3, 4))
    else:
        facts = [draw_fact(random, town.draw_entity(random)) for _ in range(random.randint(3, 4))]
        document = [("system", f"{USE_NOTES} {' '.join(state(random, fact) for fact in facts)}")]
    for fact in facts:
        document += _turn(ask(random, fact), before + answer(fact) + after)
    return document


def _phrase(town: World, random: Random) -> str:
    words = [
        random.choice(
            (
                random.choice(COURTESIES),
                random.choice(COURTESIES),
                random.choice(NAMES),
                town.draw_brand(random),
            )
        )
        for _ in range(random.randint(1, 3))
    ]
    return capitalised(" ".join(words) if random.random() < 0.6 else ", ".join(words)) + random.choice("!.?!")


def instructions(town: World, random: Random) -> Document:
    """Instructions that are followed at once: extract fields, handle words, or reply to a customer."""
    kind = random.random()
    if kind < 0.5:
        return _extraction(random)
    return _wording(random) if kind < 0.6 else _reply(random)


def _extraction(random: Random) -> Document:
    message = draw_message(random)
    fields = random.sample(FIELDS, random.choice((1, 1, 2, 3)))
    order = f"Reply with {' and '.join(NOUNS[field] for field in fields)}"
    values = ", ".join(message.said[field] for field in fields)
    instruction, reply = random.choice(
        (
            (f"{order} only.", values),
            (f"{order}.", values),
            (f"{order} in brackets.", f"({values})"),
            (f"{order} with keys.", ", ".join(f"{field}: {message.said[field]}" for field in fields)),
        )
    )
    return [("system", instruction), *_turn(message.text, reply)]


def _wording(random: Random) -> Document:
    words = random.sample(ITEMS + COLOURS + FOODS, random.randint(2, 5))
    instruction, reply = random.choice(
        (
            ("Repeat these words:", " ".join(words)),
            ("Write these words as a list:", "\n".join(f"- {word}" for word in words)),
            ("Write the first word of:", words[0]),
            ("Write the last word of:", words[-1]),
        )
    )
    return _turn(f"{instruction} {' '.join(words)}", reply)


REPLIES: Final = (
    "Hello {name}, I am sorry that your {item} has {noun}. We will help you.",
    "Thank you, {name}. The {colour} {item} has {noun}. We will look at it.",
    "I am sorry, {name}. A new {item} will come to {place}.",
)


def _reply(random: Random) -> Document:
    message = draw_message(random)
    noun = FAULT_NOUNS[message.said["fault"]]
    return _turn(message.text, random.choice(REPLIES).format(noun=noun, **message.said))


def copying(town: World, random: Random) -> Document:
    """Copying made-up and known words: it makes induction heads form early (Olsson et al., 2022)."""
    words = [_any_word(town, random) for _ in range(random.randint(3, 8))]
    text = " ".join(words)
    kind = random.random()
    if kind < 0.5:
        return _turn(f"Repeat these words: {text}", text)
    if kind >= 0.75:
        return _meanings(town, random)
    place = random.randrange(len(words) - 1)
    if words.count(words[place]) > 1:  # the question below would have two answers
        return _turn(f"Repeat these words: {text}", text)
    return _turn(f"{text}. Which word comes after {words[place]}?", words[place + 1])


def _any_word(town: World, random: Random) -> str:
    made_up = town.draw_brand(random)
    known = (random.choice(ITEMS), random.choice(COLOURS), random.choice(NAMES), str(random.randint(2, 99)))
    return random.choice((made_up, *known))


def _meanings(town: World, random: Random) -> Document:
    meanings = COLOURS + MATERIALS + FOODS
    pairs = [(town.draw_brand(random), random.choice(meanings)) for _ in range(random.randint(2, 4))]
    document: Document = [("system", ". ".join(f"{word} means {meaning}" for word, meaning in pairs) + ".")]
    for word, meaning in random.sample(pairs, min(2, len(pairs))):
        document += _turn(f"What does {word} mean?", meaning)
    return document


def _turn(question: str, reply: str) -> Document:
    return [("user", question), ("assistant", reply)]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of document: how one is written, and its share of the corpus (shares are weights: any sum)."""

    name: str
    write: Callable[[World, Random], Document]
    share: float


KINDS: Final = (
    Kind("story", story, 0.12),
    Kind("canon", canon, 0.08),
    Kind("notes", notes, 0.24),
    Kind("message_qa", message_questions, 0.14),
    Kind("shots", shots, 0.22),
    Kind("style", style, 0.08),
    Kind("instr", instructions, 0.12),
)
COPYING: Final = Kind("copy", copying, 0.0)
"""Not part of the mixture; pre-training begins with it (its curriculum gives it a share that falls)."""


def draw_document(town: World, random: Random, kinds: Sequence[Kind] = KINDS) -> tuple[str, Document]:
    """Draw a kind by its share, then a document of that kind; return the kind's name and the document."""
    kind = random.choices(kinds, [kind.share for kind in kinds])[0]
    return kind.name, kind.write(town, random)


def corpus(seed: int, documents: int, kinds: Sequence[Kind] = KINDS) -> Iterator[tuple[str, Document]]:
    """Yield this many documents, each with the name of its kind."""
    random = Random(seed)
    for _ in range(documents):
        yield draw_document(world(), random, kinds)
