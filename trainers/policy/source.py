"""Where a model comes from: a directory or a hub id, looked at before anything of it is opened.

Safetensors or nothing: a pickle runs code when it is opened, and `weights_only` is no boundary (CVE-2025-32434).
A model that wants its own code is refused too, whatever a flag in its files says (CVE-2026-5241).
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from recipes.plan import Model
from recipes.words import N_
from trainers.errors import CodeRefused, MissingWeights, PickleRefused

WEIGHTS: Final = ("*.safetensors", "*.safetensors.index.json")
PICKLES: Final = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
WORDS: Final = ("*.json", "*.jinja", "*.model", "*.txt")
"""Configuration and tokenizer; no code and no pickle is even downloaded."""
HUB_ID: Final = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class Source:
    """A model directory that was looked at; `commit` is the revision on the hub, or None for a local one."""

    directory: Path
    commit: str | None


def find(model: Model, home: Path) -> Source:
    """The directory of `model`; a local one is relative to `home`, the recipe's directory.

    Raises:
        MissingWeights: Nothing is there, or it is not whole.
        PickleRefused: The weights exist only as pickles.
        CodeRefused: It wants its own code to run.
    """
    for directory in (home / model.id, Path(model.id)):
        if directory.is_dir():
            inspect(directory)
            return Source(directory.resolve(), None)
    if not HUB_ID.fullmatch(model.id):
        raise MissingWeights(
            N_("there is no model directory {id}"),
            remedy=N_("give a directory in Hugging Face format, or a hub id such as Qwen/Qwen3-0.6B"),
            where=str(home),
            id=model.id,
        )
    directory = _download(model)
    inspect(directory)
    return Source(directory, directory.name)


def inspect(directory: Path) -> None:
    """Refuse a model directory that is not whole, or that is not only data."""
    where = str(directory)
    if not (directory / "config.json").is_file():
        raise MissingWeights(
            N_("there is no config.json"),
            remedy=N_("give the directory that `save_pretrained` wrote; an adapter alone is not a model"),
            where=where,
        )
    weights = sorted(path.name for path in directory.glob("*.safetensors") if path.is_file())
    pickles = sorted(path.name for kind in PICKLES for path in directory.glob(kind))
    if not weights and pickles:
        raise PickleRefused(
            N_("the weights are a pickle ({name}), which can run any code when it is opened"),
            remedy=N_("ask the publisher for safetensors, or convert it on a machine that you can lose"),
            where=where,
            name=pickles[0],
        )
    if not weights:
        raise MissingWeights(
            N_("there are no weights (*.safetensors)"),
            remedy=N_("download the whole model, or give another directory"),
            where=where,
        )
    for shard in _shards(directory):
        _whole(directory, shard)
    _data_only(directory)


def sum_of(source: Source) -> str:
    """Sum (sha256, hex) of configuration and weights; of a hub model its commit, which says the same."""
    if source.commit:
        return source.commit
    total = hashlib.sha256()
    for path in (source.directory / "config.json", *sorted(source.directory.glob("*.safetensors"))):
        total.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _shards(directory: Path) -> Iterator[str]:
    """The files that the index names: paths from outside, so they are checked."""
    for index in directory.glob("*.safetensors.index.json"):
        try:
            named = json.loads(index.read_bytes())["weight_map"]
            yield from sorted(set(map(str, named.values())))
        except (ValueError, KeyError, AttributeError):
            raise MissingWeights(
                N_("the index of the weights cannot be read ({name})"),
                remedy=N_("download the model again"),
                where=str(directory),
                name=index.name,
            ) from None


def _whole(directory: Path, shard: str) -> None:
    path = directory / shard
    if Path(shard).name == shard and path.is_file():  # a name, not a path: no `../`, no device, no pipe
        return
    raise MissingWeights(
        N_("a part of the weights is missing: {name}"),
        remedy=N_("download the model again"),
        where=str(directory),
        name=shard,
    )


def _data_only(directory: Path) -> None:
    code = sorted(path.name for path in directory.rglob("*.py"))
    asking = [name for name in ("config.json", "tokenizer_config.json") if _wants_code(directory / name)]
    if code or asking:
        raise CodeRefused(
            N_("the model brings code of its own ({name}), and code is not run"),
            remedy=N_("take a model whose architecture transformers knows, without *.py and `auto_map`"),
            where=str(directory),
            name=(asking + code)[0],
        )


def _wants_code(path: Path) -> bool:
    """Whether a configuration, or one nested in it, names classes to import."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        raise MissingWeights(
            N_("{name} is not JSON"),
            remedy=N_("download the model again"),
            where=str(path.parent),
            name=path.name,
        ) from None
    return _has_key(found, "auto_map")


def _has_key(value: object, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_has_key(one, key) for one in value.values())
    return isinstance(value, list) and any(_has_key(one, key) for one in value)


def _download(model: Model) -> Path:
    """Fetch configuration, tokenizer and safetensors of a hub model; from the cache when that has them."""
    try:
        return Path(snapshot_download(model.id, revision=model.revision, allow_patterns=[*WEIGHTS, *WORDS]))
    except GatedRepoError:
        problem, remedy = (
            N_("the model {id} is gated"),
            N_("accept its licence on the hub, then `hf auth login`"),
        )
    except (RepositoryNotFoundError, RevisionNotFoundError):
        problem = N_("the hub has no model {id} (or not this revision)")
        remedy = N_("check the spelling; a local directory is given relative to the recipe")
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        problem = N_("the model {id} is not on this computer, and the hub cannot be reached")
        remedy = N_("connect once, or give a local directory in Hugging Face format")
    raise MissingWeights(problem, remedy=remedy, id=model.id)
