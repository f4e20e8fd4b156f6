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


Dtype = Literal["float32", "bfloat16", "float16"]
"""The form of numbers that weights and activations have."""


class Model(Part):
    """The base model: a directory in Hugging Face format, or a hub id with the revision it was resolved to."""

    id: Line
    """A directory (relative to the recipe, else to where it is started), or a hub id."""
    revision: Line | None = None
    """The commit of a hub model; a branch could move."""
    dtype: Dtype = "bfloat16"
    """The type in which the weights are loaded and computed."""


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
    """How many decoder blocks move, counted from the last."""


class Lora(Part):
    """Low-rank adapters on frozen weights (Hu et al., 2021); on an NF4 base this is QLoRA (Dettmers et al., 2023).

    `targets` are names of linear modules; `("all-linear",)` means each linear layer inside the blocks.
    """

    kind: Literal["lora"] = "lora"
    base: Literal["dense", "nf4"] = "dense"
    """How the frozen weights are held: as loaded, or in 4 bit (QLoRA)."""
    double_quantisation: bool = True
    """Hold the scales of the 4-bit weights in 8 bit; without effect on a dense base."""
    rank: Count = 16
    """Columns of the small matrices: their capacity, and their size."""
    alpha: PositiveFloat = 32.0
    """The adapter is multiplied by alpha / rank (by alpha / sqrt(rank) with `rslora`)."""
    dropout: Share = 0.0
    """The share of an adapter's inputs that is dropped in training."""
    rslora: bool = False
    """Scale by the square root of the rank (Kalajdzievski, 2023)."""
    targets: Annotated[tuple[Line, ...], Field(min_length=1, max_length=64, strict=False)] = ("all-linear",)
    """Names of the linear modules that get an adapter; `all-linear` alone means each one inside the blocks."""


Adaptation = Annotated[Full | LastLayers | Lora, Field(discriminator="kind")]  # what moves


class Data(Part):
    """Rows (`recipes.rows`, JSONL) for training and, apart from them by group, for judging.

    Paths are relative to the recipe. The sums bind the recipe to its rows: a run refuses other ones.
    """

    train: Line
    """The rows that are trained."""
    train_sha256: Sha256
    """The sum of that file."""
    held_out: Line
    """The rows that judge, and are never trained."""
    held_out_sha256: Sha256
    """The sum of that file."""
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
    """Passes over the training rows; may be a fraction."""
    max_steps: Count | None = None
    """Stop after so many optimizer steps, whatever `epochs` says."""
    micro_batch_tokens: Count
    """Tokens of one flat row: what is in memory at once."""
    accumulation: Count = 1
    """Micro-batches of one optimizer step."""
    learning_rate: PositiveFloat
    """The highest rate, reached after the warm-up."""
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after the warm-up."""
    warmup_share: Share = 0.05
    """The share of all steps in which the learning rate rises from zero."""
    weight_decay: NonNegativeFloat = 0.01
    """How strongly AdamW pulls weights towards zero."""
    clip_norm: PositiveFloat = 1.0
    """A longer gradient is shortened to this norm."""
    optimizer: Literal["adamw"] = "adamw"
    """What turns gradients into steps (Loshchilov and Hutter, 2017)."""
    checkpointing: bool = False
    """Recompute activations in the backward instead of keeping them (Chen et al., 2016)."""
    seed: Seed = 0
    """Decides the order of the rows, how adapters begin, and dropout."""
    save_every_steps: Count = 100
    """How often a checkpoint is committed."""
    keep_checkpoints: Annotated[int, Field(ge=2, le=1000)] = 2
    """How many of the newest checkpoints stay; the one before is there if the last is damaged."""
    evaluate_every_steps: Count = 100
    """How often the held-out loss is measured while training."""


class Evaluation(Part):
    """The comparison that matters: base, best prompt and tuned model on the same held-out rows.

    `prompt` is the instruction of the prompt arm; `few_shot_prompt` stands above `shots` examples drawn from
    the training rows. The score named `primary` decides the verdict.
    """

    rows: Count = 100
    """Held-out rows that each arm answers, at most."""
    max_new_tokens: Count = 64
    """The longest answer that is generated."""
    shots: Annotated[int, Field(ge=0, le=64)] = 3
    """Examples of the few-shot arm; 0 leaves the arm out."""
    prompt: Prose | None = None
    """The instruction of the prompt arm; without one the arm is left out."""
    few_shot_prompt: Prose | None = None
    """The instruction above the examples; without one it is `prompt`."""
    primary: Line = "exact"
    """The score that decides: `exact`, `fields`, `stopped`, `nll`, or the name of a check that every row has."""


class Layout(Part):
    """Where it runs: how many processes, and the device each one has."""

    processes: Count = 1
    """How many processes train together."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where each process computes; `auto` takes a GPU if there is one."""
    threads: Count | None = None
    """CPU threads of a process; part of the fingerprint, since sums depend on it."""


class Predicted(Part):
    """What the estimate said when the recipe was written; the report shows it beside what was measured."""

    peak_bytes: Count
    """Predicted peak memory."""
    seconds_low: NonNegativeFloat | None = None
    """Predicted time of training, its lower end."""
    seconds_high: NonNegativeFloat | None = None
    """Predicted time of training, its upper end."""
    gpu: Line | None = None
    """The card that was planned for."""


class Plan(Part):
    """One run, fully decided: an objective (what to learn) times an adaptation (what moves)."""

    schema_version: Literal[1] = SCHEMA
    """The version of this form; older ones are lifted when they are read."""
    name: RunName
    """The name of the run and of its directory: small letters, digits, `.`, `_`, `-`."""
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
