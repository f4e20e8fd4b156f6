"""How trainers use memory, as data: one profile per trainer and version, and the loss heads that they may have."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final, Literal

from advisor.errors import UnknownName
from advisor.estimate.optimizers import optimizer
from recipes.words import N_

NATIVE: Final = "native"
NATIVE_CPU: Final = "native-cpu"

Attention = Literal["flash", "sdpa", "eager"]


@dataclass(frozen=True, slots=True)
class Head:
    """What a loss keeps alive; bytes for each token and vocabulary entry, or hidden unit.

    `rows` is how many positions have logits at one time (0: all of them). `kept` comes on top where the caller holds
    the logits through the backward.
    """

    name: str
    loss: str
    per_vocabulary: float
    per_hidden: float
    source: str
    words: tuple[str, ...] = ()
    library: str = ""
    since: str = ""
    until: str = ""
    kept: float = 0.0
    rows: int = 0
    per_label_hidden: float = 0.0
    """For each label token and hidden unit."""
    piece: int = 0
    """Positions of each document whose loss is made at a time, from logits that are all there."""
    per_piece: float = 0.0
    """Bytes for each entry of one piece, beside those of all logits."""
    in_backward: float = 0.0
    """Bytes for each entry while a quantised output matrix gives the gradient of its input."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a trainer keeps alive; see the head of `profiles.toml` for units.

    `adapter_math` says in which type an adapter meets its input: "base" shares the base's 16-bit tensor,
    "autocast" keeps a 16-bit copy each, "adapter" an fp32 copy each. "function" for `norm` and `swiglu` means one
    that keeps only its input. `mask`: a mask is made, so keys and values are repeated for each head. `trainers` are
    the words by which a record names it, `since` and `until` versions of `library` that it was read from.
    """

    name: str
    version: str
    device: Literal["cuda", "cpu"]
    head: Head
    adapter_bytes: int
    adapter_math: Literal["base", "autocast", "adapter"]
    norm: Literal["eager", "function"]
    swiglu: Literal["eager", "function"]
    optimizer: str
    stored_per_hidden: float
    workspace_bytes: int
    reserved_factor: tuple[float, float]
    context_gib: tuple[float, float]
    tolerance: float
    source: str
    trainers: tuple[str, ...] = ()
    library: str = ""
    since: str = ""
    until: str = ""
    provisional: bool = False
    """Neither a dry run nor a reading of its source made it: its interval is doubled."""
    attention: Attention = "flash"
    mask: bool = False
    expands_keys: bool = False
    """Whether keys and values are repeated for each head even without a mask."""
    keeps_outputs: bool = False
    attention_copies: int = 0
    runtime_bytes: int = 0
    experts_quantised: bool = False
    """Whether experts are linear layers of their own (transformers 4) or 3-D parameters that stay in 16 bit (5)."""
    blocks: Literal["transformers", "litgpt"] = "transformers"
    """Whose code the decoder's blocks are."""
    compiled: bool = False
    """Whether a compiler made its blocks: how long they take is known, what they keep is not."""
    quantises_head: bool = False
    """Whether the output matrix is a 4-bit layer like those of the blocks."""
    dequantised_bytes: int = 0
    """Bytes of a 4-bit weight while it computes (0: those of the type it computes in)."""
    kbit_prep: bool = False
    """Whether everything that is not quantised becomes fp32, and hidden states with it."""
    casts_back: bool = False
    """Whether embedding and head are made 16-bit again after that."""
    out_of_range: bool = False
    """Whether it stands for a version that nobody derived."""
    bucket_view: bool = True
    """Whether gradients are views of the buffers that processes exchange, or beside them."""

    @property
    def title(self) -> str:
        """Name and version, as an estimate shows them."""
        return f"{self.name}@{self.version}"

    @property
    def is_native(self) -> bool:
        """Whether it is our own trainer."""
        return self.name in {NATIVE, NATIVE_CPU}

    @property
    def loss(self) -> Literal["chunked", "full"]:
        """Whether logits are made a chunk of label positions at a time, or all at once."""
        return "chunked" if self.head.rows else "full"

    @property
    def step_copies(self) -> int:
        """Copies of everything trained that the optimizer makes for a moment."""
        return optimizer(self.optimizer).step_copies

    def with_head(self, head: Head) -> "Profile":
        """The same trainer with another loss."""
        return replace(self, head=head)


@cache
def _tables() -> Mapping[str, Any]:
    return tomllib.loads(files("advisor.estimate").joinpath("profiles.toml").read_text(encoding="utf-8"))


@cache
def heads() -> Mapping[str, Head]:
    """Every loss head, by name."""
    found = [Head(**{**row, "words": tuple(row.get("words", ()))}) for row in _tables()["head"]]
    return MappingProxyType({head.name: head for head in found})


_TUPLES: Final = ("reserved_factor", "context_gib", "trainers")


@cache
def profiles() -> Mapping[str, Profile]:
    """Every profile, by name."""
    found = [
        Profile(
            **{
                **row,
                **{key: tuple(row[key]) for key in _TUPLES if key in row},
                "head": heads()[row["head"]],
            }
        )
        for row in _tables()["profile"]
    ]
    return MappingProxyType({profile.name: profile for profile in found})


def profile(name: str) -> Profile:
    """Find a profile by name.

    Raises:
        UnknownName: There is none.
    """
    if name not in profiles():
        raise UnknownName(N_("profile"), name, profiles(), listing="advisor estimate --help")
    return profiles()[name]
