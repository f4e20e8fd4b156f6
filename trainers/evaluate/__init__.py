"""Judge: each arm answers the same held-out rows, greedily, and is scored; then the arms are compared."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast, get_args

from recipes.plan import Evaluation
from recipes.report import Arm, Rate, Sample
from recipes.rows import NLL, Row, Turn, score_names
from recipes.words import N_
from trainers.data import Example, masked, prompt_ids, windows
from trainers.errors import DatasetError
from trainers.evaluate import arms, scores, statistics
from trainers.evaluate.answers import Answer, answer, end_ids
from trainers.evaluate.contest import compare, verdict
from trainers.evaluate.likelihood import Read, Reading, read
from trainers.evaluate.outcome import TOKENS, Outcome, from_json, speed, to_json
from trainers.evaluate.scores import MEANS
from trainers.evaluate.subject import Subject, context_tokens, quiet

__all__ = ["Outcome", "compare", "from_json", "judge", "speed", "to_json", "verdict"]

SAMPLES: Final = 5
"""Rows whose answers stand in the report, the same ones for every arm."""
SHOWN_CHARACTERS: Final = 2_000
"""A sample is for eyes."""
SEED: Final = 0
"""The rows that are judged are the same in every run on the same data, before and after training."""
WINDOW_TOKENS: Final = 1_024
"""Plain text is read in windows of this length, or of the model's context if that is shorter."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class _Question:
    """A row as one arm asks it: the prompt and, to be read, the row in the arm's words."""

    prompt: tuple[int, ...]
    asked: Row
    shots: int


def judge(
    policy: Subject,
    held_out: Sequence[Row],
    train: Sequence[Row],
    evaluation: Evaluation,
    names: Sequence[str],
    progress: Progress,
) -> tuple[Outcome, ...]:
    """Let each arm of `names` answer the held-out rows, at most `evaluation.rows` of them.

    An arm that does not apply (no prompt, no example to show, a row without a passage) is left out. Prompts
    beyond the model's context lose their examples first, then their beginning.

    Args:
        policy: What answers; for the tuned arm, after training.
        held_out: Rows that were never trained.
        train: Where the few-shot arm takes its examples.
        evaluation: Prompts, limits, and the score that decides.
        names: Of "base", "prompt", "few_shot", "context", "tuned".
        progress: Hears the arm, how many rows are done, and of how many.

    Raises:
        DatasetError: No row to judge, or the primary score does not apply to every row.
    """
    rows = chosen(held_out, evaluation.rows)
    wanted = applicable(rows, evaluation.primary)
    known = [cast(arms.Name, name) for name in names if name in get_args(arms.Name)]
    with quiet(policy):
        return tuple(
            _arm(policy, name, rows, train, evaluation, wanted, progress)
            for name in known
            if arms.applies(name, rows, train, evaluation)
        )


def chosen(held_out: Sequence[Row], count: int) -> tuple[Row, ...]:
    """The rows that are judged, in their order: all of them, or a fixed random choice."""
    if len(held_out) <= count:
        return tuple(held_out)
    places = sorted(random.Random(SEED).sample(range(len(held_out)), count))
    return tuple(held_out[place] for place in places)


def applicable(rows: Sequence[Row], primary: str) -> tuple[str, ...]:
    """The scores of these rows.

    Raises:
        DatasetError: No rows; a check with the name of a score; or `primary` is not among the scores.
    """
    if not rows:
        raise DatasetError(
            N_("there is no held-out row to judge"), remedy=N_("hold at least one row out of training")
        )
    taken = sorted({check.name for row in rows for check in row.checks} & scores.RESERVED)
    if taken:
        raise DatasetError(
            N_("a check of the rows is called {name}, which is the name of a score"),
            remedy=N_("give the check another name"),
            name=taken[0],
        )
    wanted = score_names(rows)
    if primary not in wanted:
        raise DatasetError(
            N_("the primary score {name} does not apply to every held-out row"),
            remedy=N_("choose one of: {known}"),
            name=primary,
            known=", ".join(wanted),
        )
    return wanted


def _arm(
    policy: Subject,
    name: arms.Name,
    rows: Sequence[Row],
    train: Sequence[Row],
    evaluation: Evaluation,
    wanted: Sequence[str],
    progress: Progress,
) -> Outcome:
    start = time.perf_counter()
    progress(name, 0, len(rows))
    questions = [_question(policy, name, row, train, evaluation) for row in rows]
    reading = _read(policy, questions)
    answers: tuple[Answer, ...] = ()
    if wanted != (NLL,):
        answers = answer(
            policy,
            [question.prompt for question in questions],
            ends=end_ids(policy),
            limit=_room(policy, evaluation),
            on_rows=lambda done: progress(name, done, len(rows)),
        )
    else:
        progress(name, len(rows), len(rows))
    per_row = _per_row(rows, answers, reading, wanted)
    groups = tuple(row.source.group for row in rows)
    arm = Arm(
        name=name,
        instruction=arms.instruction(name, evaluation),
        shots=max(question.shots for question in questions),
        scores={score: _rate(score, per_row, groups) for score in wanted if score != NLL},
        nll=_rate(NLL, per_row, groups),
        prompt_tokens=statistics.mean([float(len(question.prompt)) for question in questions]),
        seconds=time.perf_counter() - start,
        samples=_samples(rows, answers),
    )
    return Outcome(arm, per_row, groups, reading.tokens, reading.seconds)


def _question(
    policy: Subject, name: arms.Name, row: Row, train: Sequence[Row], evaluation: Evaluation
) -> _Question:
    """Ask `row` as the arm does, with as many examples as the context holds."""
    if row.kind == "text":
        return _Question((), row, 0)
    most = context_tokens(policy) - _room(policy, evaluation)
    shown = arms.examples(row, train, evaluation.shots) if name == "few_shot" else ()
    for shots in range(len(shown), -1, -1):
        turns = arms.turns(name, row, shown[:shots], evaluation)
        prompt = tuple(prompt_ids(policy.tokenizer, turns))
        if len(prompt) <= most:
            break
    return _Question(prompt[-most:], _asked(row, turns), shots)


def _asked(row: Row, turns: Sequence[Turn]) -> Row:
    """The row in the arm's words, of which only the reference answer counts."""
    before = tuple(turn.model_copy(update={"train": False}) for turn in turns)
    last = row.messages[-1].model_copy(update={"train": True})
    return row.model_copy(update={"messages": (*before, last)})


def _room(policy: Subject, evaluation: Evaluation) -> int:
    """Tokens kept free for the answer; never more than half of the context."""
    return min(evaluation.max_new_tokens, context_tokens(policy) // 2)


def _read(policy: Subject, questions: Sequence[_Question]) -> Reading:
    """Read the references; a text of several windows is one row again afterwards."""
    parts = [_windows(policy, question.asked) for question in questions]
    reading = read(policy, [part for row in parts for part in row])
    found = iter(reading.rows)
    whole = tuple(_joined([next(found) for _ in row]) for row in parts)
    return Reading(whole, reading.tokens, reading.seconds)


def _joined(parts: Sequence[Read]) -> Read:
    return Read(sum(part.nats for part in parts), sum(part.tokens for part in parts))


def _windows(policy: Subject, row: Row) -> list[Example]:
    """The row as the model can read it: a text in windows, a conversation without what its context cannot hold."""
    example = masked(policy.tokenizer, row)
    limit = context_tokens(policy)
    if row.kind == "text":
        return list(windows(example, min(limit, WINDOW_TOKENS)))
    return [Example(example.ids[-limit:], example.trained[-limit:], row)]


def _per_row(
    rows: Sequence[Row], answers: Sequence[Answer], reading: Reading, wanted: Sequence[str]
) -> dict[str, tuple[float, ...]]:
    scored = [
        scores.score(row, said.text, stopped=said.stopped, wanted=wanted)
        for row, said in zip(rows, answers, strict=False)  # plain text has no answers
    ]
    found = {name: tuple(row[name] for row in scored) for name in wanted if name != NLL}
    found[NLL] = tuple(row.nats / row.tokens if row.tokens else 0.0 for row in reading.rows)
    found[TOKENS] = tuple(float(row.tokens) for row in reading.rows)
    return found


def _rate(score: str, per_row: dict[str, tuple[float, ...]], groups: Sequence[str]) -> Rate:
    values = per_row[score]
    if score in MEANS:
        spread = statistics.bootstrap(values, groups, per_row[TOKENS] if score == NLL else ())
        return Rate(value=spread.value, low=spread.low, high=spread.high, n=len(values))
    rate = statistics.mean(values)
    low, high = statistics.wilson(rate, statistics.effective(groups))
    return Rate(value=rate, low=low, high=high, n=len(values))


def _samples(rows: Sequence[Row], answers: Sequence[Answer]) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            prompt=row.prompt[-1].content[:SHOWN_CHARACTERS] if row.prompt else "",
            expected=row.answer[:SHOWN_CHARACTERS],
            got=said.text[:SHOWN_CHARACTERS],
        )
        for row, said in zip(rows[:SAMPLES], answers, strict=False)
    )
