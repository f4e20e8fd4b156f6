"""What an estimate is made of: one training configuration, reduced to what costs memory or time."""

from dataclasses import dataclass
from math import ceil
from typing import Final, Literal, Protocol

from advisor.catalog.models import ModelShape
from advisor.errors import AdvisorError, BadValue
from advisor.estimate import shapes
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


@dataclass(frozen=True, slots=True)
class Setup:
    """One training configuration of supervised fine-tuning on one device.

    `micro_batch_tokens` are the tokens of one flat row, `label_share` the share of them that is trained,
    `longest_tokens` the longest document. `accumulates`: gradients live through further micro-batches.
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
    def label_tokens(self) -> int:
        """Tokens of a micro-batch that are trained."""
        return min(self.micro_batch_tokens, ceil(self.micro_batch_tokens * self.label_share))

    @property
    def trained(self) -> int:
        """Parameters that move."""
        return shapes.trained_parameters(self.shape, self.adaptation)

    @property
    def trained_bytes(self) -> int:
        """Bytes of one trained parameter, and so of its gradient and of each of its two moments."""
        return self.profile.adapter_bytes if isinstance(self.adaptation, Lora) else self.element_bytes

    @property
    def base_is_nf4(self) -> bool:
        """Whether the blocks' linear layers are held in 4 bits."""
        return isinstance(self.adaptation, Lora) and self.adaptation.base == "nf4"


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
    return Setup(
        shape=shape,
        adaptation=plan.adaptation,
        profile=profile(NATIVE_CPU if where == "cpu" else NATIVE),
        micro_batch_tokens=tokens,
        longest_tokens=longest,
        label_share=share,
        accumulates=plan.schedule.accumulation > 1,
        checkpointing=plan.schedule.checkpointing,
        dtype=plan.model.dtype,
        optimizer=plan.schedule.optimizer,
    )


def require_known(shape: ModelShape) -> None:
    """Refuse a model that no formula describes.

    Raises:
        Unsupported: The architecture is unknown, a dimension is missing, or the dimensions contradict the
            published count.
    """
    if shape.estimator == "unsupported" or not all(_needed(shape)):
        _refuse(shape, N_("not all dimensions of {model} are known, so its memory cannot be estimated"))
    if shape.estimator == "dry_run_required":
        _refuse(shape, N_("the blocks of {model} ({block}) have no formula yet; only a dry run could tell"))
    published = shape.published_parameters
    counted = shapes.parameters(shape)
    if published and abs(counted / published - 1) > PUBLISHED_TOLERANCE:
        _refuse(shape, N_("the known dimensions of {model} do not give its published number of parameters"))


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
