"""What is known of models: the catalogue, and any model on disk through its `config.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from advisor.catalog.config import Dimensions, described, dimensions
from advisor.catalog.tables import rows
from advisor.errors import UnknownName
from advisor.reading import is_directory
from recipes.words import N_

Estimator = Literal["closed_form", "closed_form_moe", "dry_run_required", "unsupported"]
"""How memory can be estimated: by formula, by formula with a wider interval, by a dry run only, or not yet."""


Residual = Literal["in turn", "parallel", "parallel, one norm"]
"""Whether a block's MLP reads what its attention wrote, or both read the block's input; then perhaps through one norm."""


@dataclass(frozen=True, slots=True)
class Moe:
    """Experts of a mixture: how many there are, how many a token uses, the MLP width of each."""

    experts: int
    active: int
    mlp: int
    shared: int = 0
    shared_mlp: int = 0
    first_dense: int = 0
    """How many of the first layers have an ordinary MLP."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The dimensions of a decoder, with their source; 0, "" or None where the source does not say.

    `heads`, `kv_heads` and `head_width` give the widths of queries and keys; `mlp` is the intermediate width.
    `block` is the key of the activation tables ("llama", "qwen3", ...). Counts are of weights, `context` is in
    tokens. Source: the `source` of each row.
    """

    name: str
    layers: int = 0
    hidden: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_width: int = 0
    mlp: int = 0
    vocabulary: int = 0
    tied: bool | None = None
    block: str = "other"
    estimator: Estimator = "unsupported"
    moe: Moe | None = None
    qkv_bias: bool = False
    biased: bool = False
    """Whether every linear layer inside the blocks has a bias."""
    head_bias: bool = False
    residual: Residual = "in turn"
    attention: str = ""
    context: int = 0
    family: str = ""
    modality: str = "text"
    published_parameters: int | None = None
    published_source: str = ""
    active_parameters: int | None = None
    reference_parameters: int | None = None
    """The count of the language model alone, as a second program counted it."""
    reference_source: str = ""
    licence: str | None = None
    licence_source: str = ""
    gated: bool | None = None
    verified: bool = False
    notes: str = ""
    source: str = ""
    checked: date | None = None

    @property
    def queries(self) -> int:
        """Width of all queries together."""
        return self.heads * self.head_width

    @property
    def keys(self) -> int:
        """Width of all keys (or of all values) together."""
        return self.kv_heads * self.head_width


@cache
def models() -> Mapping[str, ModelShape]:
    """Every model of the catalogue, by its hub id."""
    found = {}
    for row in rows("models", "model"):
        moe = Moe(**row["moe"]) if "moe" in row else None
        found[row["name"]] = ModelShape(**{**row, "moe": moe})
    return MappingProxyType(found)


def model(name: str) -> ModelShape:
    """Find a model: a directory with a `config.json`, a hub id in any case, or the part after its slash.

    Raises:
        UnknownName: Neither a directory nor in the catalogue.
        ConfigError: The directory has no usable `config.json`.
    """
    if name and is_directory(Path(name)):
        return local(Path(name))
    known = models()
    folded = {key.casefold(): key for key in known}
    short = {key.split("/")[-1].casefold(): key for key in known}
    wanted = name.casefold()
    key = folded.get(wanted) or short.get(wanted)
    if key is None:
        raise UnknownName(N_("model"), name, known, listing="advisor models")
    return known[key]


def local(directory: Path) -> ModelShape:
    """Read the shape of the model in `directory` from its `config.json`; an unknown architecture says so."""
    return _shape(dimensions(directory), str(directory), str(directory / "config.json"))


def configured(config: Mapping[str, Any], name: str) -> ModelShape:
    """The shape of a model whose `config.json` has this content.

    Raises:
        ConfigError: It is not that of a causal language model.
    """
    return _shape(described(config, name), name, name)


def _shape(found: Dimensions, name: str, source: str) -> ModelShape:
    sizes, moe = found.sizes, Moe(**found.moe) if found.moe else None
    return ModelShape(
        name=name,
        layers=sizes["layers"],
        hidden=sizes["hidden"],
        heads=sizes["heads"],
        kv_heads=sizes["kv_heads"],
        head_width=sizes["head_width"],
        mlp=sizes["mlp"],
        vocabulary=sizes["vocabulary"],
        context=sizes["context"],
        moe=moe,
        block=found.block,
        estimator=found.estimator,
        tied=found.tied,
        qkv_bias=found.qkv_bias,
        family=found.model_type,
        attention=found.model_type,
        verified=True,
        notes=found.note,
        source=source,
    )
