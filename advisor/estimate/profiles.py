"""How trainers use memory, as data: one profile per trainer and version."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final, Literal

from advisor.errors import UnknownName
from recipes.words import N_

NATIVE: Final = "native"
NATIVE_CPU: Final = "native-cpu"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a trainer keeps alive; see the head of `profiles.toml` for units.

    `adapter_math` says in which type an adapter meets its input: "base" shares the base's 16-bit tensor,
    "autocast" keeps a 16-bit copy each, "adapter" an fp32 copy each. "function" for `norm` and `swiglu` means one
    that keeps only its input. `step_copies` counts copies of everything trained inside the optimizer step.
    """

    name: str
    version: str
    device: Literal["cuda", "cpu"]
    loss: Literal["chunked", "full"]
    loss_per_vocabulary: float
    loss_per_hidden: float
    adapter_bytes: int
    adapter_math: Literal["base", "autocast", "adapter"]
    norm: Literal["eager", "function"]
    swiglu: Literal["eager", "function"]
    step_copies: int
    stored_per_hidden: float
    workspace_bytes: int
    reserved_factor: tuple[float, float]
    context_gib: tuple[float, float]
    tolerance: float
    source: str
    loss_rows: int = 0
    loss_first_per_vocabulary: float = 0.0
    loss_per_label_hidden: float = 0.0
    attention_copies: int = 0
    runtime_bytes: int = 0
    experts_quantised: bool = False
    """Whether experts are linear layers of their own (transformers 4) or 3-D parameters that stay in 16 bit (5)."""

    @property
    def title(self) -> str:
        """Name and version, as an estimate shows them."""
        return f"{self.name}@{self.version}"


@cache
def profiles() -> Mapping[str, Profile]:
    """Every profile, by name."""
    rows = tomllib.loads(files("advisor.estimate").joinpath("profiles.toml").read_text(encoding="utf-8"))
    pairs = ("reserved_factor", "context_gib")
    found = [Profile(**{**row, **{key: tuple(row[key]) for key in pairs}}) for row in rows["profile"]]
    return MappingProxyType({profile.name: profile for profile in found})


def profile(name: str) -> Profile:
    """Find a profile by name.

    Raises:
        UnknownName: There is none.
    """
    if name not in profiles():
        raise UnknownName(N_("profile"), name, profiles(), listing="advisor estimate --help")
    return profiles()[name]
