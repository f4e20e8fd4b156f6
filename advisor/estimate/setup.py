"""What an estimate is made of: one training configuration, reduced to what costs memory or time."""

from dataclasses import dataclass, replace
from math import ceil
from typing import Final, Literal, Protocol

from advisor.catalog.models import ModelShape
from advisor.errors import AdvisorError, BadValue
from advisor.estimate import shapes
from advisor.estimate.foreign import Foreign
from advisor.estimate.optimizers import Optimizer, optimizer
from advisor.estimate.profiles import NATIVE, NATIVE_CPU, Profile, profile
from recipes.exits import Exit
from recipes.plan import Adaptation, Lora, Plan
from recipes.words import N_

Dtype = Literal["float32", "bfloat16", "float16"]

PUBLISHED_TOLERANCE: Final = 0.1
"""Dimensions that give a count this far from the published one are not those of the model. Vision parts, which
published counts include, are below it."""
MAX_TOKENS: Final = 2**31
"""A micro-batch beyond this is a slip: positions are 32-bit in the kernels."""


class Unsupported(AdvisorError):
    """A model whose memory no formula of ours gives; the reason says why."""

    exit_code = Exit.USAGE
    code = "E0101"


class Counts(Protocol):
    """What an estimate asks of a dataset (`advisor.data.stats.DataStats` has it)."""

    @property
    def tokens(self) -> int:
        """All tokens."""

    @property
    def trained_tokens(self) -> int:
        """Those with a label."""

    @property
    def longest_tokens(self) -> int:
        """Tokens of the longest row."""


Objective = Literal["sft", "cpt", "dpo", "kto", "reward", "ppo", "grpo"]
Reference = Literal["none", "copy", "adapter_off", "precomputed"]
"""Where the log-probabilities of the model before training come from: nowhere, a second model, the model without its
adapter, or a file."""
Sharding = Literal["none", "zero1", "zero2", "zero3", "fsdp2"]
Base = Literal["dense", "nf4", "nf4_double", "int8", "gptq"]
EAGER_NORM: Final = 6.0
"""Bytes a unit that the last norm of the libraries keeps: an fp32 copy and its result."""
PAIRED: Final = frozenset({"dpo", "reward"})
"""Objectives whose row is two sequences, the better and the worse one."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One training configuration, as one of its devices sees it.

    `micro_batch_tokens` are the tokens of one flat row, `label_share` the share of them that is trained,
    `longest_tokens` the longest document. `accumulates`: gradients live through further micro-batches.
    `held`: how the frozen linear layers are held where the adaptation cannot say it (GPTQ).
    """

    shape: ModelShape
    adaptation: Adaptation
    profile: Profile
    micro_batch_tokens: int
    longest_tokens: int
    label_share: float = 1.0
    accumulates: bool = False
    checkpointing: bool = False
    dtype: Dtype = "bfloat16"
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    exact_weights: bool = True
    """Whether the native trainer keeps the bits beside 16-bit weights that move which their type cannot hold."""
    checkpointing_layers: int = 1
    checkpointing_offload: bool = False
    objective: Objective = "sft"
    reference: Reference = "none"
    response_tokens: int = 0
    """Of PPO and GRPO: tokens of one answer that is generated."""
    processes: int = 1
    sharding: Sharding = "none"
    autocast: bool = False
    held: Literal["gptq"] | None = None
    dropout: float = 0.0
    """Of adapters, where the adaptation cannot say it."""
    extra_modules: tuple[str, ...] = ()
    """Modules that adapters are trained beside, as whole copies ("embed_tokens", "lm_head")."""
    steps_in_backward: bool = False
    """Whether each weight moves as soon as its gradient is there, and the gradient is freed."""
    foreign: Foreign | None = None
    """A method of peft alone, in place of the adaptation."""

    def __post_init__(self) -> None:
        """Refuse what no run can be.

        Raises:
            BadValue: Tokens that are not above 0, or absurd.
        """
        if not 0 < self.micro_batch_tokens <= MAX_TOKENS:
            raise BadValue(
                N_("a micro-batch must have between 1 and {most} tokens, not {value}"),
                remedy=N_("change micro_batch_tokens (or --seq and --micro-batch)"),
                value=self.micro_batch_tokens,
                most=MAX_TOKENS,
            )

    @property
    def element_bytes(self) -> int:
        """Bytes of one number in the base's type."""
        return 4 if self.dtype == "float32" else 2

    @property
    def compute_bytes(self) -> int:
        """Bytes of one number that a matrix product yields."""
        return 2 if self.autocast else self.element_bytes

    @property
    def rows(self) -> int:
        """Documents of a micro-batch, if each is as long as the longest."""
        return max(1, ceil(self.micro_batch_tokens / max(1, self.longest_tokens)))

    @property
    def pass_tokens(self) -> int:
        """Tokens of one pass through the blocks: both halves of a pair, and learned positions in front."""
        virtual = shapes.virtual_tokens(self.adaptation) * self.rows
        return (self.micro_batch_tokens + virtual) * self.sequences

    @property
    def sequences(self) -> int:
        """How many sequences a row stands for."""
        return 2 if self.objective in PAIRED else 1

    @property
    def label_tokens(self) -> int:
        """Tokens of a pass that are trained."""
        tokens = self.micro_batch_tokens * self.sequences
        return min(tokens, ceil(tokens * self.label_share))

    @property
    def trained(self) -> int:
        """Parameters that move."""
        if self.foreign:
            return self.foreign.trained
        return shapes.trained_parameters(self.shape, self.adaptation) + self.extra_weights

    @property
    def added(self) -> int:
        """Parameters that are not the base's: adapters, and copies of modules that are trained beside them."""
        return self.trained - shapes.moved(self.shape, self.adaptation).weights

    @property
    def extra_weights(self) -> int:
        """Weights of whole copies of modules."""
        return len(self.extra_modules) * shapes.head_weights(self.shape)

    @property
    def trained_bytes(self) -> int:
        """Bytes of one trained parameter, and so of its gradient."""
        return self.profile.adapter_bytes if self.adds else self.element_bytes

    @property
    def adds(self) -> bool:
        """Whether what moves is added to a frozen base."""
        return not shapes.moved(self.shape, self.adaptation).weights

    @property
    def base(self) -> Base:
        """How the blocks' linear layers are held."""
        if self.held or not isinstance(self.adaptation, Lora):
            return self.held or "dense"
        if self.adaptation.base == "nf4":
            return "nf4_double" if self.adaptation.double_quantisation else "nf4"
        return self.adaptation.base

    @property
    def base_is_nf4(self) -> bool:
        """Whether the blocks' linear layers are held in 4 bits by bitsandbytes."""
        return self.base in {"nf4", "nf4_double"}

    @property
    def moves_by(self) -> Optimizer:
        """The optimizer: the profile's, unless moments of 8 bit or exact 16-bit weights are asked for."""
        name = self.profile.optimizer if self.optimizer == "adamw" else self.optimizer
        rounded = self.exact_weights and self.trained_bytes == 2 and self.dtype == "bfloat16"
        if rounded and self.profile.is_native:
            name = {"adamw_fused": "adamw"}.get(name, name) + "_exact"
        return optimizer(name)


def setup(plan: Plan, shape: ModelShape, stats: Counts | None, *, device: str = "cuda") -> Setup:
    """Reduce a plan to its estimate's input; without statistics every token counts as trained.

    `device` is used where the plan leaves it to the machine ("auto").
    """
    where = device if plan.layout.device == "auto" else plan.layout.device
    tokens = plan.schedule.micro_batch_tokens
    longest = min(plan.data.length_tokens, tokens)
    share = 1.0
    if stats is not None and stats.tokens > 0:
        tokens, longest = min(tokens, stats.tokens), min(longest, stats.longest_tokens)
        share = min(1.0, stats.trained_tokens / stats.tokens)
    used = profile(NATIVE_CPU if where == "cpu" else NATIVE)
    if plan.layout.functions == "stock":
        used = replace(
            used,
            norm="eager",
            swiglu="eager",
            adapter_math="adapter",
            head=replace(used.head, per_hidden=EAGER_NORM),
        )
    return Setup(
        shape=shape,
        adaptation=plan.adaptation,
        profile=used,
        micro_batch_tokens=tokens,
        longest_tokens=longest,
        label_share=share,
        accumulates=plan.schedule.accumulation > 1,
        checkpointing=plan.schedule.checkpointing,
        dtype=plan.model.dtype,
        optimizer=plan.schedule.optimizer,
        exact_weights=plan.schedule.exact_weights,
        checkpointing_layers=plan.schedule.checkpointing_layers,
        checkpointing_offload=plan.schedule.checkpointing_offload,
        processes=plan.layout.processes,
        sharding=plan.layout.sharding,
    )


def require_known(shape: ModelShape, *, blocks: str = "transformers") -> None:
    """Refuse a model that no formula describes, in the code (`blocks`) that its trainer has for it.

    Raises:
        Unsupported: The architecture is unknown, a dimension is missing, or the dimensions contradict the
            published count.
    """
    if shape.estimator == "unsupported" or not all(_needed(shape)):
        _refuse(shape, N_("not all dimensions of {model} are known, so its memory cannot be estimated"))
    if shape.estimator == "dry_run_required" and not (shape.block == "gelu" and blocks == "litgpt"):
        _refuse(shape, N_("the blocks of {model} ({block}) have no formula yet; only a dry run could tell"))
    published = shape.published_parameters
    counted = shapes.parameters(shape)
    if published and abs(counted / published - 1) > PUBLISHED_TOLERANCE:
        _refuse(shape, N_("the known dimensions of {model} do not give its published number of parameters"))


def require_eager(used: Profile) -> None:
    """Refuse blocks that a compiler made.

    Raises:
        Unsupported: The profile says so.
    """
    if used.compiled:
        raise Unsupported(
            N_("what a compiler keeps of a block no formula tells"),
            remedy=N_("a dry run can tell: `advisor estimate --dry-run`"),
        )


def _needed(shape: ModelShape) -> tuple[int, ...]:
    return (
        shape.layers,
        shape.hidden,
        shape.heads,
        shape.kv_heads,
        shape.head_width,
        shape.mlp,
        shape.vocabulary,
    )


def _refuse(shape: ModelShape, why: str) -> None:
    raise Unsupported(
        why,
        remedy=N_("give a local directory with its config.json, or choose a model from `advisor models`"),
        model=shape.name,
        block=(shape.notes if shape.checked is None else shape.attention) or shape.block,
    )
