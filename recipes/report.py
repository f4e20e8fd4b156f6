"""What comes back: the lines of `events.jsonl` while a run goes, and `report.json`, the receipt, at its end."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt

from recipes.plan import Line, Part, Prose

REPORT_SCHEMA: Final = 1
EVENTS_VERSION: Final = 1


class Event(BaseModel):
    """One line of `events.jsonl`; the fields of each type are listed in `docs/en/reference/events.md`.

    The reader may be older than the writer, so further fields are kept and unknown types are skipped: the one
    place in the house where the unknown is not an error.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    v: int
    seq: NonNegativeInt
    t: str
    """UTC, ISO 8601."""
    mono: float
    """Seconds of a clock that never jumps; for durations only."""
    type: str

    def number(self, name: str) -> float | None:
        """A further field as a number; None if it is absent or something else."""
        value = (self.model_extra or {}).get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def text(self, name: str) -> str:
        """A further field as text; empty if it is absent or something else."""
        value = (self.model_extra or {}).get(name)
        return value if isinstance(value, str) else ""


class Rate(Part):
    """A mean over `n` rows with its 95 % interval (Wilson for yes/no scores, bootstrap by group otherwise)."""

    value: float
    low: float
    high: float
    n: NonNegativeInt


class Sample(Part):
    """One held-out row and what an arm answered."""

    prompt: Prose
    expected: Prose
    got: Prose


class Arm(Part):
    """One contestant on the held-out rows.

    The base model alone, with a prompt, with examples, with the right passage (`context`: only where the rows
    carry one), or the tuned model.
    """

    name: Literal["base", "prompt", "few_shot", "context", "tuned"]
    instruction: Prose | None = None
    shots: NonNegativeInt = 0
    scores: Mapping[str, Rate]
    """By name: `exact`, `fields` (share of JSON fields right, with types), and the checks of the rows."""
    nll: Rate | None = None
    """Negative log-likelihood of the reference answer, nats a token."""
    prompt_tokens: NonNegativeFloat
    """Mean length of the prompt that is paid on every call."""
    seconds: NonNegativeFloat
    samples: Annotated[tuple[Sample, ...], Field(strict=False)] = ()


class Difference(Part):
    """Tuned minus the best other arm on one score, on the same rows: exact McNemar, or a paired bootstrap."""

    score: Line
    against: Literal["base", "prompt", "few_shot"]
    value: float
    low: float
    high: float
    p_value: float
    test: Literal["mcnemar", "bootstrap"]
    detectable: float
    """The smallest difference that this many rows show with 80 % power."""


Verdict = Literal["helped", "hurt", "cannot_tell", "not_trained"]


class Memory(Part):
    """Predicted beside measured. On a GPU `max_memory_allocated`; on a CPU the growth of the peak resident set."""

    quantity: Literal["cuda_max_allocated", "cpu_peak_rss_delta"]
    measured_bytes: NonNegativeInt
    predicted_bytes: NonNegativeInt | None = None


class Duration(Part):
    """Predicted beside measured seconds of training (without loading and evaluation)."""

    measured_seconds: NonNegativeFloat
    predicted_low: NonNegativeFloat | None = None
    predicted_high: NonNegativeFloat | None = None


class Training(Part):
    """What the training did."""

    method: Line
    steps: NonNegativeInt
    trained_tokens: NonNegativeInt
    tokens: NonNegativeInt
    rows: NonNegativeInt
    rows_dropped: NonNegativeInt
    rows_cut: NonNegativeInt = 0
    """Rows that were longer than `data.length_tokens`, and of which the beginning or parts are trained."""
    first_loss: float
    last_loss: float
    held_out_loss: float | None
    trainable_parameters: NonNegativeInt
    parameters: NonNegativeInt
    memory: Memory
    duration: Duration
    output: Line
    """The adapter or model that was saved, relative to the run directory."""
    changes: Annotated[tuple[Prose, ...], Field(strict=False)] = ()
    """What the run went on with instead of what it began with, as `key: before -> now`."""
    risen_at: Annotated[tuple[NonNegativeInt, ...], Field(strict=False)] = ()
    """Steps at which the loss stood well above its own minimum."""


class Report(Part):
    """The receipt of a run (or of a measurement, when nothing was trained)."""

    schema_version: Literal[1] = REPORT_SCHEMA
    run: Line
    model: Line
    primary: Line
    held_out_rows: NonNegativeInt
    arms: Annotated[tuple[Arm, ...], Field(strict=False)]
    differences: Annotated[tuple[Difference, ...], Field(strict=False)] = ()
    verdict: Verdict
    training: Training | None = None
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    forward_tokens_per_second: NonNegativeFloat | None = None
    """Speed of a forward pass on this machine, without padding: what a plan for it needs to predict its time."""
    finished: str
    """UTC, ISO 8601."""
