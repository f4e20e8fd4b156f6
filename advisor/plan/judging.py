"""How a run is judged when nobody says: which score decides, how many rows, how long an answer may be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from advisor.catalog.gpus import Hardware
from advisor.catalog.models import ModelShape
from advisor.data.tokens import answer_tokens
from advisor.errors import BadValue
from advisor.plan import defaults
from recipes.plan import Dtype, Evaluation, Layout
from recipes.read import made
from recipes.rows import Row, score_names
from recipes.words import N_

JUDGED_ROWS: Final = 100
"""Rows that are generated for each arm: an interval of about 20 points at worst, in minutes."""
ANSWER_TOKENS: Final = (16, 1024)
"""Bounds of a generated answer: below, a model that rambles is not seen; above, one row takes minutes."""
ANSWER_STEP: Final = 16
"""Answer lengths are rounded up to this: small changes of the data leave the recipe as it is."""


def evaluation(
    train: Sequence[Row],
    held_out: Sequence[Row],
    model_dir: Path | None,
    *,
    prompt: str | None = None,
    few_shot_prompt: str | None = None,
    score: str | None = None,
) -> Evaluation:
    """Judge on these rows, by the score that is named or else by the one that fits them.

    Raises:
        RecipeError: A prompt that no recipe can hold.
        BadValue: A score that not every row has.
    """
    values = {
        "rows": min(JUDGED_ROWS, len(held_out)),
        "max_new_tokens": room(train, model_dir),
        "prompt": prompt,
        "few_shot_prompt": few_shot_prompt,
        "primary": decides(held_out, score),
    }
    return made(Evaluation, values, "evaluation")


def on(hardware: Hardware, shape: ModelShape | None) -> tuple[Dtype, Layout]:
    """Measure a model as a plan for this hardware would train it: the same arithmetic, the same threads.

    Otherwise the measured speed would not be the speed of the run, and scores would differ by rounding.
    """
    threads = None if shape is None else defaults.threads(shape, hardware).value
    return defaults.dtype(hardware).value, Layout(device=hardware.kind, threads=threads)


def room(rows: Sequence[Row], model_dir: Path | None) -> int:
    """Tokens of a generated answer: a quarter more than all but the longest answers have."""
    least, most = ANSWER_TOKENS
    wanted = -(-answer_tokens(rows, model_dir) * 5 // 4 // ANSWER_STEP) * ANSWER_STEP
    return min(most, max(least, wanted))


def decides(held_out: Sequence[Row], score: str | None) -> str:
    """The score that is named, if every row has it; without a name the one that fits the rows.

    Raises:
        BadValue: Not every row has it.
    """
    known = score_names(held_out)
    if score is not None and score not in known:
        raise BadValue(
            N_("the primary score {name} does not apply to every held-out row"),
            remedy=N_("choose one of: {known}"),
            name=score,
            known=", ".join(known),
        )
    return score or primary(held_out)


def primary(held_out: Sequence[Row]) -> str:
    """The score that decides: a check that all rows have, else the whole answer; for text the loss."""
    if any(row.kind == "text" for row in held_out):
        return "nll"
    named = [check.name for check in held_out[0].checks] if held_out else []
    shared = [name for name in named if all(name in {check.name for check in row.checks} for row in held_out)]
    return shared[0] if shared else "exact"
