"""The plan: one run, fully decided. What a `recipe.toml` holds, and nothing else."""

import hashlib
import json
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat

SCHEMA: Final = 1
LARGEST: Final = 2**53
"""The largest integer that every JSON and TOML reader keeps exactly."""


class Part(BaseModel):
    """A frozen piece of a file; a key it does not know is an error, not a default; no number is infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


def _plain(text: str) -> str:
    """Refuse what no id, path or name needs: control characters, line separators and lone surrogates."""
    if any(not c.isprintable() for c in text):
        raise ValueError("has a character that cannot be printed")
    return text


def _encodable(text: str) -> str:
    """Refuse lone surrogates: no file can hold them."""
    text.encode()
    return text


Line = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_plain)]
"""One printable line: an id, a path, a name."""
Prose = Annotated[str, Field(max_length=65_536), AfterValidator(_encodable)]
"""Free text of a person or a data set; may have line breaks."""
RunName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
"""The name of a run: also the name of its directory."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1, le=LARGEST)]
"""A whole number from 1."""
Seed = Annotated[int, Field(ge=0, le=LARGEST)]
Share = Annotated[float, Field(ge=0, lt=1)]
"""A share of something, from 0 up to but not including 1."""


class Model(Part):
    """The base model: a directory in Hugging Face format, or a hub id with the revision it was resolved to."""

    id: Line
    revision: Line | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"


class Sft(Part):
    """Supervised fine-tuning: the negative log-likelihood of the answers (of everything, in plain text)."""

    kind: Literal["sft"] = "sft"


Objective = Sft  # what to learn; a tagged union as soon as there is a second kind


class Full(Part):
    """Every weight moves."""

    kind: Literal["full"] = "full"


class LastLayers(Part):
    """Only the last `layers` decoder blocks, the final norm and an untied head move; the rest is frozen."""

    kind: Literal["last_layers"] = "last_layers"
    layers: Count


class Lora(Part):
    """Low-rank adapters on frozen weights (Hu et al., 2021); on an NF4 base this is QLoRA (Dettmers et al., 2023).

    `targets` are names of linear modules; `("all-linear",)` means each linear layer inside the blocks.
    """

    kind: Literal["lora"] = "lora"
    base: Literal["dense", "nf4"] = "dense"
    double_quantisation: bool = True
    rank: Count = 16
    alpha: PositiveFloat = 32.0
    dropout: Share = 0.0
    rslora: bool = False
    targets: Annotated[tuple[Line, ...], Field(min_length=1, max_length=64, strict=False)] = ("all-linear",)


Adaptation = Annotated[Full | LastLayers | Lora, Field(discriminator="kind")]  # what moves


class Data(Part):
    """Rows (`recipes.rows`, JSONL) for training and, apart from them by group, for judging.

    Paths are relative to the recipe. The sums bind the recipe to its rows: a run refuses other ones.
    """

    train: Line
    train_sha256: Sha256
    held_out: Line
    held_out_sha256: Sha256
    length_tokens: Count
    """The longest row that is trained, in tokens; text is split into windows of this length."""
    too_long: Literal["refuse", "drop"] = "drop"
    """What happens to a longer row; it is never cut silently. Dropped rows are counted and named."""


class Schedule(Part):
    """How the weights move: batches, steps and the optimizer.

    A step is `accumulation` micro-batches; a micro-batch is one flat row of whole documents, at most
    `micro_batch_tokens` long. The loss is the sum over trained tokens divided by their number in the step.
    """

    epochs: PositiveFloat
    max_steps: Count | None = None
    micro_batch_tokens: Count
    accumulation: Count = 1
    learning_rate: PositiveFloat
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_share: Share = 0.05
    """The share of all steps in which the learning rate rises from zero."""
    weight_decay: NonNegativeFloat = 0.01
    clip_norm: PositiveFloat = 1.0
    optimizer: Literal["adamw"] = "adamw"
    checkpointing: bool = False
    """Recompute activations in the backward instead of keeping them (Chen et al., 2016)."""
    seed: Seed = 0
    save_every_steps: Count = 100
    keep_checkpoints: Annotated[int, Field(ge=2, le=1000)] = 2
    evaluate_every_steps: Count = 100
    """How often the held-out loss is measured while training."""


class Evaluation(Part):
    """The comparison that matters: base, best prompt and tuned model on the same held-out rows.

    `prompt` is the instruction of the prompt arm; `few_shot_prompt` stands above `shots` examples drawn from
    the training rows. The score named `primary` decides the verdict.
    """

    rows: Count = 100
    max_new_tokens: Count = 64
    shots: Annotated[int, Field(ge=0, le=64)] = 3
    prompt: Prose | None = None
    few_shot_prompt: Prose | None = None
    primary: Line = "exact"


class Layout(Part):
    """Where it runs: how many processes, and the device each one has."""

    processes: Count = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count | None = None
    """CPU threads of a process; part of the fingerprint, since sums depend on it."""


class Predicted(Part):
    """What the estimate said when the recipe was written; the report shows it beside what was measured."""

    peak_bytes: Count
    seconds_low: NonNegativeFloat | None = None
    seconds_high: NonNegativeFloat | None = None
    gpu: Line | None = None


class Plan(Part):
    """One run, fully decided: an objective (what to learn) times an adaptation (what moves)."""

    schema_version: Literal[1] = SCHEMA
    name: RunName
    model: Model
    objective: Objective = Sft()
    adaptation: Adaptation
    data: Data
    schedule: Schedule
    evaluation: Evaluation = Evaluation()
    layout: Layout = Layout()
    predicted: Predicted | None = None


class Probe(Part):
    """A measurement without training: the arms of `evaluation` on the held-out rows of an untuned model."""

    schema_version: Literal[1] = SCHEMA
    model: Model
    data: Data
    evaluation: Evaluation = Evaluation()
    layout: Layout = Layout()


def digest(part: Part) -> str:
    """Sum (sha256, hex) of what a part says, whatever its comments, order or spelling in a file."""
    canonical = json.dumps(part.model_dump(mode="json", exclude_none=True), sort_keys=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
