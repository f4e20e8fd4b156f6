"""`advisor ask`: the questions of the interface as numbered lines, for terminals that cannot draw it."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import click

from advisor.cli import voice
from advisor.cli.facts import Sources, gather, read
from advisor.data.store import write_whole
from advisor.decide.advise import advise
from advisor.decide.answers import FACTS, Answers, Value, merge, parse
from advisor.decide.questions import Question, next_question
from advisor.errors import BadValue
from advisor.show import advice as show
from advisor.show.prose import wrapped
from advisor.text import N_, inert, t
from recipes.errors import Failure

Word = Literal["back", "unsure", "why", "enough", "value"]
KEYS: Final[Mapping[str, Word]] = {"b": "back", "u": "unsure", "w": "why", "p": "enough", "": "enough"}
"""What may be typed instead of a number; the end of the input asks for the advice, too."""
HELP: Final = N_("number, or b back, u not sure, w why, p advice now, =VALUE an exact value: ")

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True)
class Talk:
    """What was known before, and what was answered since, in order; None stands for "not sure"."""

    before: Answers
    given: tuple[tuple[str, Value | None], ...] = ()

    @property
    def answers(self) -> Answers:
        """Everything that is known now.

        Raises:
            BadValue: The answers contradict what was known.
        """
        return merge(self.before, parse({fact: value for fact, value in self.given if value is not None}))

    def next(self) -> Question | None:
        """The next question, or None where no answer can change the advice any more."""
        return next_question(self.answers, [fact for fact, _ in self.given])

    def told(self, fact: str, value: Value | None) -> "Talk":
        """The talk after one more answer."""
        return replace(self, given=(*self.given, (fact, value)))

    def back(self) -> "Talk":
        """The talk before the last answer."""
        return replace(self, given=self.given[:-1])


@click.command(help=t(N_("Ask the questions that can change the advice, one by one, in plain text.")))
@click.option(
    "--fact", "flags", multiple=True, metavar="NAME=VALUE", help=t(N_("A fact; may be given many times."))
)
@click.option("--facts", type=_FILE, help=t(N_("A file with one JSON object, fact to value.")))
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=t(N_("Keep the answers in FILE after each question; a file that is there is continued.")),
)
@click.option("--plain", is_flag=True, help=t(N_("Questions and answers alone; w tells the reason.")))
@click.option("--json", "as_json", is_flag=True, help=t(N_("One JSON object on stdout.")))
def command(  # noqa: D103  (the help is above)
    flags: tuple[str, ...], facts: Path | None, save: Path | None, plain: bool, as_json: bool
) -> None:
    if not sys.stdin.isatty():
        raise BadValue(
            N_("questions need a terminal, and standard input is none"),
            remedy=N_(
                "give facts to `advisor recommend` with --fact NAME=VALUE or --facts FILE; --vocabulary lists them"
            ),
        )
    known = parse(read(save), "file", source=str(save)) if save and save.exists() else Answers()
    start = Talk(merge(known, gather(Sources(facts=facts, flags=flags))))
    answers = converse(start, _hear, keep=_keeper(save), reasons=not plain).answers
    found = advise(answers)
    if as_json:
        voice.envelope("ask", show.data(found, answers))
    else:
        click.echo(show.text(found))
    if save:
        voice.note(N_("the answers are in {path}: `advisor recommend --facts` reads them"), path=str(save))


def converse(talk: Talk, hear: Callable[[], str], *, keep: Callable[[Talk], None], reasons: bool) -> Talk:
    """Ask until nothing can change the advice, or the person has enough.

    Args:
        talk: What is known at the start.
        hear: Gives one line of the person, "" at the end of the input.
        keep: Is given the talk after each answer, and after an answer is taken back.
        reasons: Whether each question comes with its reason.
    """
    question = talk.next()
    while question is not None:
        _tell(_asked(question, len(talk.given) + 1, reasons=reasons))
        word, value = _understood(hear, question, talk)
        if word == "enough":
            return talk
        talk = talk.back() if word == "back" else talk.told(question.fact, value)
        keep(talk)
        question = talk.next()
    return talk


def _understood(hear: Callable[[], str], question: Question, talk: Talk) -> tuple[Word, Value | None]:
    """Listen until what is typed can be used, and say what is wrong with what cannot."""
    while True:
        _tell([t(HELP)], end=False)
        line = hear()
        typed = line.strip()
        if line and not typed:
            continue
        word = KEYS.get(typed.casefold(), "value")
        if word == "why":
            _tell(_reason(question))
        elif word == "back" and not talk.given:
            _tell([t(N_("This is the first question."))])
        elif word in {"back", "unsure", "enough"}:
            return word, None
        elif word == "value" and (found := _value(typed, question, talk)):
            return word, found.value


@dataclass(frozen=True, slots=True)
class Found:
    """A value that was understood; None is "not sure", typed or chosen."""

    value: Value | None


def _value(typed: str, question: Question, talk: Talk) -> Found | None:
    """What was typed, by its number or exactly; None, once said why, where it can be no answer."""
    try:
        raw = typed[1:] if typed.startswith("=") else _chosen(typed, question)
        value = parse({question.fact: raw}).get(question.fact)
        _ = talk.told(question.fact, value).answers  # a contradiction is told now, while it can be mended
        return Found(value)
    except Failure as failure:
        _tell([inert(t(failure.problem, **failure.values)), inert(t(failure.remedy, **failure.values))])
        return None


def _chosen(typed: str, question: Question) -> str | int | float:
    numbers = {str(number): choice.value for number, choice in enumerate(question.choices, start=1)}
    if typed not in numbers:
        raise BadValue(
            N_("{typed!r} is none of the numbers"),
            remedy=N_("type 1 to {last}, or = and a value: {allowed}"),
            typed=typed[:40],
            last=len(numbers),
            allowed=FACTS[question.fact].allowed,
        )
    return numbers[typed]


def _asked(question: Question, number: int, *, reasons: bool) -> Iterator[str]:
    yield ""
    yield from wrapped(f"{number}. {t(question.text)}", hang=3)
    if reasons:
        yield from wrapped(t(question.why), indent=3)
    for place, choice in enumerate(question.choices, start=1):
        yield from wrapped(f"{place}) {t(choice.label)}", indent=3, hang=3)


def _reason(question: Question) -> Iterator[str]:
    yield from wrapped(t(question.why), indent=3)
    yield from wrapped(t(question.analogy), indent=3)


def _tell(lines: Iterable[str], *, end: bool = True) -> None:
    """Speak beside the result, so that stdout holds the advice alone."""
    click.echo("\n".join(lines), nl=end, err=True)


def _hear() -> str:
    return sys.stdin.readline()


def _keeper(save: Path | None) -> Callable[[Talk], None]:
    """What keeps the answers: nothing without a file."""

    def keep(talk: Talk) -> None:
        if save is not None:
            write_whole(
                save, [(json.dumps(talk.answers.known(), ensure_ascii=True, indent=1) + "\n").encode()]
            )

    return keep
