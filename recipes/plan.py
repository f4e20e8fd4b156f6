"""The plan: one run, fully decided. What a `recipe.toml` holds, and nothing else."""

import hashlib
import json
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    model_validator,
)
from pydantic_core import PydanticCustomError

from recipes.words import N_

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


def contradiction(text: str, **values: str | int) -> PydanticCustomError:
    """Two values that cannot both hold, in words of ours (`text` is a marked message) that `read` passes on."""
    return PydanticCustomError("contradiction", text, {"msgid": text, "values": values})


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
AdapterName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""The name of an adapter: also the name of its folder, and part of its tensors' names."""
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


class Named(Part):
    """Only the weights move whose names match a pattern, such as `model.layers.*.mlp.*`."""

    kind: Literal["named"] = "named"
    patterns: Annotated[tuple[Line, ...], Field(min_length=1, max_length=64, strict=False)]
    """Shell patterns (`*`, `?`, `[...]`) for whole names of weights."""


class Lora(Part):
    """Low-rank adapters on frozen weights (Hu et al., 2021); on an NF4 base this is QLoRA (Dettmers et al., 2023).

    `targets` are names of linear modules; `("all-linear",)` means each linear layer inside the blocks.
    """

    kind: Literal["lora"] = "lora"
    base: Literal["dense", "nf4", "int8"] = "dense"
    """How the frozen weights are held: as loaded, in 4 bit (QLoRA), or in 8 bit (LLM.int8, Dettmers et al., 2022)."""
    double_quantisation: bool = True
    """Hold the scales of the 4-bit weights in 8 bit; without effect on another base."""
    rank: Count = 16
    """Columns of the small matrices: their capacity, and their size."""
    alpha: PositiveFloat = 32.0
    """The adapter is multiplied by alpha / rank (by alpha / sqrt(rank) with `rslora`)."""
    dropout: Share = 0.0
    """The share of an adapter's inputs that is dropped in training."""
    rslora: bool = False
    """Scale by the square root of the rank (Kalajdzievski, 2023)."""
    dora: bool = False
    """Learn the length of each output row apart from its direction (DoRA, Liu et al., 2024)."""
    targets: Annotated[tuple[Line, ...], Field(min_length=1, max_length=64, strict=False)] = ("all-linear",)
    """Names of the linear modules that get an adapter; `all-linear` alone means each one inside the blocks."""
    name: AdapterName = "default"
    """What the adapter is called, beside others on the same base."""
    beneath: Annotated[tuple[Line, ...], Field(max_length=16, strict=False)] = ()
    """Directories of LoRA adapters that stand on the base already: active, and frozen."""


class Bottleneck(Part):
    """Small networks inside the blocks: h + U f(D h), before the residual sum."""

    kind: Literal["bottleneck"] = "bottleneck"
    placement: Literal["houlsby", "pfeiffer"] = "pfeiffer"
    """After attention and MLP (Houlsby et al., 2019), or after the MLP alone (Pfeiffer et al., 2021)."""
    width: Count = 64
    """How many numbers pass through the narrow part."""
    activation: Literal["relu", "gelu", "silu"] = "relu"
    """The function between down and up."""


class Prefix(Part):
    """Learned keys and values in front of each layer's attention (Li and Liang, 2021)."""

    kind: Literal["prefix"] = "prefix"
    virtual_tokens: Count = 50
    """How many positions every document gets in front."""


class PTuning(Part):
    """Learned input vectors, made by a small network (Liu et al., 2021)."""

    kind: Literal["p_tuning"] = "p_tuning"
    virtual_tokens: Count = 20
    """How many positions every document gets in front."""
    encoder_width: Count = 128
    """Width of the network that makes them; it is not needed afterwards."""


class PromptTuning(Part):
    """Learned input vectors (Lester et al., 2021)."""

    kind: Literal["prompt_tuning"] = "prompt_tuning"
    virtual_tokens: Count = 20
    """How many positions every document gets in front."""
    start: Prose | None = None
    """A text whose tokens are the first vectors; without one they are rows of the vocabulary, drawn."""


class Ia3(Part):
    """Learned factors on keys, values and the MLP's inner activations (Liu et al., 2022)."""

    kind: Literal["ia3"] = "ia3"


Adaptation = Annotated[
    Full | LastLayers | Named | Lora | Bottleneck | Prefix | PTuning | PromptTuning | Ia3,
    Field(discriminator="kind"),
]  # what moves


def method(adaptation: Adaptation) -> str:
    """What people call an adaptation, in one word: "qlora", "dora", "prefix" and so on."""
    match adaptation:
        case Lora(base="nf4"):
            return "qdora" if adaptation.dora else "qlora"
        case Lora(base="int8"):
            return "lora_8bit"
        case Lora(dora=True):
            return "dora"
        case _:
            return adaptation.kind


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
    too_long: Literal["refuse", "drop", "truncate", "split"] = "drop"
    """What happens to a longer row: end the run, leave it out, keep its beginning, or make several of it.

    Whatever happens is counted and told; an answer that was cut loses its end token.
    """


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
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """AdamW (Loshchilov and Hutter, 2017), or with moments in 8 bit (Dettmers et al., 2021), also pageable."""
    exact_weights: bool = True
    """Keep the bits of a 16-bit weight that moves which its type cannot hold: without them small steps are lost."""
    checkpointing: bool = False
    """Recompute activations in the backward instead of keeping them (Chen et al., 2016)."""
    checkpointing_layers: Count = 1
    """With `checkpointing`: how many blocks lie between two activations that are kept."""
    checkpointing_offload: bool = False
    """With `checkpointing`: keep those activations in the computer's memory instead of the GPU's."""
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
    """Where it runs: how many processes, the device each one has, and what they share."""

    processes: Count = 1
    """How many processes train together, over all nodes; each has one device."""
    nodes: Count = 1
    """How many computers they run on."""
    sharding: Literal["none", "fsdp2", "zero2", "zero3"] = "none"
    """What several processes divide: nothing (DDP), weights, gradients and moments (FSDP2, ZeRO-3), or the latter
    two (ZeRO-2, Rajbhandari et al., 2020)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where each process computes; `auto` takes a GPU if there is one."""
    threads: Count | None = None
    """CPU threads of a process; part of the fingerprint, since sums depend on it."""
    functions: Literal["ours", "stock"] = "ours"
    """Who computes norms, gated MLPs and LoRA: functions that keep little for the backward, or the libraries."""
    compile: Literal["auto", "off", "on"] = "auto"
    """Compile the blocks; `auto` does where a run on a GPU is long enough to earn the compilation back."""
    cuda_graph: bool = False
    """Replay a micro-batch as one CUDA graph: not offered until it is measured; a run refuses it."""
    deterministic: bool = False
    """Use only operations that give the same bits each time; slower on a GPU."""


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

    @model_validator(mode="after")
    def _consistent(self) -> "Plan":
        for holds, problem in _contradictions(self):
            if holds:
                raise problem
        return self


def agrees(plan: Plan) -> bool:
    """Whether no two values of `plan` exclude each other (a copy with changed fields was not validated)."""
    return not any(holds for holds, _ in _contradictions(plan))


def _contradictions(plan: Plan) -> tuple[tuple[bool, PydanticCustomError], ...]:
    """Pairs of values that exclude each other, and the sentence for each."""
    layout, schedule, adaptation = plan.layout, plan.schedule, plan.adaptation
    base = adaptation.base if isinstance(adaptation, Lora) else "dense"
    return (
        (
            layout.processes % layout.nodes != 0,
            contradiction(
                N_(
                    "layout.processes = {processes} cannot be spread evenly over layout.nodes = {nodes}: "
                    "make it a multiple"
                ),
                processes=layout.processes,
                nodes=layout.nodes,
            ),
        ),
        (
            isinstance(adaptation, Lora) and adaptation.dora and base == "int8",
            contradiction(
                N_('adaptation.dora does not work on adaptation.base = "int8": choose "dense" or "nf4"')
            ),
        ),
        (
            layout.sharding == "zero3" and base != "dense",
            contradiction(
                N_(
                    'layout.sharding = "zero3" cannot divide a base in {base}: choose "fsdp2" or "zero2", '
                    'or adaptation.base = "dense"'
                ),
                base=base,
            ),
        ),
        (
            layout.sharding == "fsdp2" and base == "int8",
            contradiction(
                N_('layout.sharding = "fsdp2" cannot divide a base in int8: choose adaptation.base = "nf4"')
            ),
        ),
        (
            layout.sharding != "none" and schedule.optimizer != "adamw",
            contradiction(
                N_(
                    'schedule.optimizer = "{optimizer}" does not work where moments are divided: choose "adamw", '
                    'or layout.sharding = "none"'
                ),
                optimizer=schedule.optimizer,
            ),
        ),
        (
            layout.sharding in ("zero2", "zero3") and not schedule.exact_weights,
            contradiction(
                N_(
                    'layout.sharding = "{sharding}" keeps every weight in float32 beside the model: '
                    "schedule.exact_weights cannot be false with it"
                ),
                sharding=layout.sharding,
            ),
        ),
    )


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
