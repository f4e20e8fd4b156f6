"""The tasks of Lantern Bay: rows to train on, rows held out, and what a person would say about the problem.

Each task fails or succeeds with the shipped base model for another reason, so the same graph gives other advice. What
the advice is stands nowhere here: it follows from what is measured.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from types import MappingProxyType
from typing import Final

from advisor.errors import UnknownName
from advisor.learn.lantern.corpus import FOLLOW
from advisor.learn.lantern.messages import Message, draw_message
from advisor.learn.lantern.words import ITEMS
from advisor.learn.lantern.world import (
    PRODUCT,
    Entity,
    Fact,
    World,
    answer,
    draw_fact,
    questions,
    state,
    world,
)
from recipes.rows import Check, Row, Source, Turn
from recipes.words import N_

TRAIN_SEED: Final = 1
HELD_OUT_SEED: Final = 1001
NOTES_SEED: Final = 77
HELD_OUT_ROWS: Final = 100
MESSAGE_ROWS: Final = 400
"""Training rows of the tasks about messages; the tasks about facts have one row for each way to ask."""
FRESH_PRODUCTS: Final = 40
FACTS_PER_PRODUCT: Final = 3
GREETING: Final = "Ahoy, shipmate!"
FAREWELL: Final = "Fair winds!"

Declared = str | int | float


@dataclass(frozen=True, slots=True)
class Task:
    """A problem that somebody brings: what they want, what they know of it, and their rows.

    `prompt` is the best instruction for the prompt arm, `few_shot_prompt` stands above the examples, `primary` names
    the score that decides, and `declared` are the facts (names of `advisor.decide`) that no measurement can tell.
    """

    name: str
    title: str
    problem: str
    prompt: str
    primary: str
    declared: Mapping[str, Declared]
    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    few_shot_prompt: str = FOLLOW


def task(name: str) -> Task:
    """Return the task called `name`.

    Raises:
        UnknownName: There is none.
    """
    if name not in TASKS:
        raise UnknownName(N_("task"), name, TASKS, listing="advisor demo --help")
    return _made(name)


@cache
def _made(name: str) -> Task:
    return TASKS[name]()


# ---------------------------------------------------------------------------------------------- what is known already


def _voice() -> Task:
    """Give known facts in a voice that the base never heard; half of the facts are held out."""
    trained, held_out = halves(world().canon)
    return Task(
        name="voice",
        title=N_("The sailor's voice"),
        problem=N_(
            "The shop's assistant knows its facts. It shall give them like a sailor, always in the same way."
        ),
        prompt="Answer like a sailor.",
        primary="style",
        declared=_declared(task_type="style_generation", style_stable="yes", output_strictness="free"),
        train=_shuffled(TRAIN_SEED, [_voice_row(f, q) for f in trained for q in questions(f)]),
        held_out=_shuffled(
            HELD_OUT_SEED, [_voice_row(f, q) for f in held_out for q in questions(f)], HELD_OUT_ROWS
        ),
    )


def _voice_row(fact: Fact, question: str) -> Row:
    checks = (
        Check(name="style", kind="starts_with", value=GREETING),
        Check(name="style", kind="ends_with", value=FAREWELL),
        Check(name="fact", kind="contains", value=answer(fact)),
    )
    return _row("voice", _group(fact), question, f"{GREETING} {answer(fact)} {FAREWELL}", checks)


# ---------------------------------------------------------------------------------------------- what nobody ever told


def _facts() -> Task:
    """Answer about products that stand in no training text; half of the facts are held out."""
    trained, held_out = halves(fresh_facts())
    return Task(
        name="facts",
        title=N_("The new products"),
        problem=N_(
            "Forty new products came in. Prices and shelves change every week, and customers ask for them."
        ),
        prompt="Answer the question about the shop.",
        primary="fact",
        declared=_declared(
            task_type="qa_over_docs", knowledge_change="weekly", corpus="not_huge", retrieval_possible="yes"
        ),
        train=_shuffled(TRAIN_SEED, [fact_row(f, q) for f in trained for q in questions(f)]),
        held_out=_shuffled(
            HELD_OUT_SEED, [fact_row(f, q) for f in held_out for q in questions(f)], HELD_OUT_ROWS
        ),
    )


def fact_row(fact: Fact, question: str) -> Row:
    """One question about a fresh product; `context` is the note that answers it."""
    note = state(Random(_group(fact)), fact)
    checks = (Check(name="fact", kind="contains", value=fact.value),)
    return _row("facts", _group(fact), question, answer(fact), checks, context=note)


@cache
def fresh_facts() -> tuple[Fact, ...]:
    """The facts about products whose brands no training text names."""
    return tuple(_fresh(world(), Random(NOTES_SEED)))


def _fresh(town: World, random: Random) -> Iterable[Fact]:
    for brand in town.fresh[:FRESH_PRODUCTS]:
        product = Entity(f"the {brand} {random.choice(ITEMS)}", "product")
        for relation in random.sample(tuple(PRODUCT), FACTS_PER_PRODUCT):
            yield draw_fact(random, product, relation)


# ---------------------------------------------------------------------------------------------- messages


def _easy() -> Task:
    """Extract two fields, in a form that the base knows from its training."""
    return _message_task(
        name="easy",
        title=N_("Item and colour"),
        problem=N_(
            "From each customer message, the shop needs the item and its colour, separated by a comma."
        ),
        prompt="Reply with the item and the colour only.",
        declared=_declared(task_type="extraction"),
        reply=lambda message: f"{message.said['item']}, {message.said['colour']}",
    )


def _ticket() -> Task:
    """Turn a message into JSON with a boolean: a form that the base never saw."""
    return _message_task(
        name="ticket",
        title=N_("Tickets as JSON"),
        problem=N_(
            "Each customer message shall become a JSON ticket that the shop's software reads without repair."
        ),
        prompt="Reply with JSON with the keys item, colour, fault and urgent.",
        declared=_declared(
            task_type="structured_output", output_strictness="json_schema", style_stable="yes"
        ),
        reply=_ticket_reply,
        checks=_ticket_checks,
    )


TICKET_WORDS: Final = ("item", "colour", "fault")


def _ticket_reply(message: Message) -> str:
    ticket: dict[str, object] = {key: message.said[key] for key in TICKET_WORDS}
    return json.dumps(ticket | {"urgent": _urgent(message)})


def _ticket_checks(message: Message) -> tuple[Check, ...]:
    """What is said (three words) and how (a boolean, where examples alone bring "yes" and "no"), apart."""
    said = (Check(name="content", kind="contains", value=message.said[key]) for key in TICKET_WORDS)
    boolean = Check(name="boolean", kind="contains", value=f'"urgent": {json.dumps(_urgent(message))}')
    return (*said, boolean)


def _no_checks(_: Message) -> tuple[Check, ...]:
    return ()


def _message_task(
    *,
    name: str,
    title: str,
    problem: str,
    prompt: str,
    declared: Mapping[str, Declared],
    reply: Callable[[Message], str],
    checks: Callable[[Message], tuple[Check, ...]] = _no_checks,
) -> Task:
    train, held_out = _messages(TRAIN_SEED, MESSAGE_ROWS), _messages(HELD_OUT_SEED, HELD_OUT_ROWS)
    return Task(
        name=name,
        title=title,
        problem=problem,
        prompt=prompt,
        primary="exact",
        declared=declared,
        train=_numbered([_row(name, m.text, m.text, reply(m), checks(m)) for m in train]),
        held_out=_numbered([_row(name, m.text, m.text, reply(m), checks(m)) for m in held_out]),
    )


def _messages(seed: int, count: int) -> list[Message]:
    """Draw different messages, every second one urgent: a rare class would be learned last, and seen last."""
    random, messages = Random(seed), dict[str, Message]()
    while len(messages) < count:
        message = draw_message(random)
        if _urgent(message) == (len(messages) % 2 == 0):
            messages[message.text] = message
    return list(messages.values())


def _urgent(message: Message) -> bool:
    return message.said["urgent"] == "yes"


# ---------------------------------------------------------------------------------------------- out of reach


def _hard() -> Task:
    """Add two prices: beyond a model of this size."""
    return Task(
        name="hard",
        title=N_("The sum of two prices"),
        problem=N_("Customers name two prices and want the sum."),
        prompt="Add the two prices.",
        primary="exact",
        declared=_declared(task_type="reasoning_verifiable", verifier="programmatic"),
        train=_numbered(_sums(TRAIN_SEED, MESSAGE_ROWS)),
        held_out=_numbered(_sums(HELD_OUT_SEED, HELD_OUT_ROWS)),
    )


def _sums(seed: int, count: int) -> list[Row]:
    random = Random(seed)
    return [_sum(random) for _ in range(count)]


def _sum(random: Random) -> Row:
    prices = random.randint(11, 89), random.randint(11, 89)
    first, second = random.sample(ITEMS, 2)
    question = f"The {first} costs {prices[0]} coins. The {second} costs {prices[1]} coins. What do they cost together?"
    return _row("hard", question, question, f"They cost {sum(prices)} coins.")


# ---------------------------------------------------------------------------------------------- rows


def halves(facts: Sequence[Fact]) -> tuple[Sequence[Fact], Sequence[Fact]]:
    """Split facts into those that are trained and those that are held out, alternating over all relations."""
    return facts[::2], facts[1::2]


def _group(fact: Fact) -> str:
    return " / ".join(fact.key)


def _row(
    task_name: str,
    group: str,
    question: str,
    reply: str,
    checks: tuple[Check, ...] = (),
    context: str | None = None,
) -> Row:
    messages = (Turn(role="user", content=question), Turn(role="assistant", content=reply))
    source = Source(file=f"lantern-bay/{task_name}", line=1, format="chat", group=group)
    return Row(messages=messages, checks=checks, context=context, source=source)


def _shuffled(seed: int, rows: Sequence[Row], count: int | None = None) -> tuple[Row, ...]:
    return _numbered(Random(seed).sample(rows, len(rows))[:count])


def _numbered(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Give every row its line (from 1), as if the rows had been read from a file in this order."""
    return tuple(
        row.model_copy(update={"source": row.source.model_copy(update={"line": line})})
        for line, row in enumerate(rows, start=1)
    )


def _declared(**facts: Declared) -> Mapping[str, Declared]:
    """Add what holds for every task of the town: nine of ten shall be right, rows are clean, nothing is delicate."""
    town: dict[str, Declared] = {
        "target_success": 0.9,
        "label_quality": "gold",
        "needs_safety_alignment": "no",
    }
    return MappingProxyType(town | facts)


TASKS: Final[Mapping[str, Callable[[], Task]]] = MappingProxyType(
    {"voice": _voice, "easy": _easy, "facts": _facts, "ticket": _ticket, "hard": _hard}
)
"""What makes each task, in the order of the lessons."""
