"""Rows in tokens, kept between runs: what was tokenised once, the same way, is read back instead.

An entry is an Arrow file of `datasets` with a manifest of sums, committed all at once. It is found by everything that
it depends on, and believed only if the sums hold: else it is made anew.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from platformdirs import user_cache_path
from transformers import PreTrainedTokenizerBase

from recipes.plan import Data
from recipes.rows import Row
from trainers import data
from trainers.checkpoints.storage import move_directory, sync_tree, write_file
from trainers.data import Example, Examples

SCHEMA: Final = 1
CACHED_ROWS: Final = 2_000
"""Below it the cache costs more than it saves: importing `datasets` takes 0.4 CPU-seconds (measured, 2 cores), as does
tokenising some 1,300 rows."""
MANIFEST: Final = "MANIFEST.json"
KEPT: Final = 20
"""Entries that stay; the ones that were not used for longest go."""


def examples(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], wanted: Data) -> tuple[Examples, bool]:
    """Tokenise the training rows, or read what was kept of them; and whether it was read.

    Raises:
        DatasetError: Rows cannot be trained.
    """
    if len(rows) < CACHED_ROWS:
        return data.examples(tokenizer, rows, wanted), False
    place = home() / _key(tokenizer, wanted)
    if (kept := _read(place, rows)) is not None:
        os.utime(place)
        return kept, True
    found = data.examples(tokenizer, rows, wanted)
    _keep(place, found, rows)
    return found, False


def home() -> Path:
    """Where entries lie: a folder of the person who runs this, shared by all runs."""
    return user_cache_path("finetune-advisor") / "tokens"


def _key(tokenizer: PreTrainedTokenizerBase, wanted: Data) -> str:
    """Everything that the tokens and the mask depend on; our rules by their own text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    parts = {
        "schema": SCHEMA,
        "rows": wanted.train_sha256,
        "length": wanted.length_tokens,
        "too_long": wanted.too_long,
        "tokenizer": hashlib.sha256(words.encode()).hexdigest(),
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "template": str(tokenizer.chat_template),
        "rules": hashlib.sha256(Path(data.__file__).read_bytes()).hexdigest(),
        "versions": {name: version(name) for name in ("transformers", "tokenizers")},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _keep(place: Path, found: Examples, rows: Sequence[Row]) -> None:
    """Commit an entry; where the disk refuses, there is none, and nothing is lost."""
    from datasets import Dataset  # noqa: PLC0415  (heavy, and small data sets do without)

    numbers = {id(row): number for number, row in enumerate(rows)}
    part = place.with_name(f".tmp-{place.name[:16]}-{os.getpid()}")
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        columns = {
            "ids": [example.ids for example in found.kept],
            "trained": [example.trained for example in found.kept],
            "row": [numbers[id(example.row)] for example in found.kept],
        }
        Dataset.from_dict(columns).save_to_disk(str(part))
        sync_tree(part)
        sums = {path.name: _sum(path) for path in sorted(part.iterdir())}
        told = {"files": sums, "dropped": found.dropped, "cut": found.cut, "last_only": found.last_only}
        write_file(part / MANIFEST, [json.dumps(told).encode()])
        shutil.rmtree(place, ignore_errors=True)  # one whose sums did not hold
        move_directory(part, place)
        _prune(place.parent)
    except OSError:
        pass
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _read(place: Path, rows: Sequence[Row]) -> Examples | None:
    """An entry whose sums hold, or None."""
    try:
        told: dict[str, Any] = json.loads((place / MANIFEST).read_bytes())
        if any(_sum(place / Path(name).name) != wanted for name, wanted in told["files"].items()):
            return None
        from datasets import load_from_disk  # noqa: PLC0415  (as above)

        kept = load_from_disk(str(place), keep_in_memory=False)
        found = tuple(
            Example(tuple(one["ids"]), tuple(one["trained"]), rows[one["row"]]) for one in kept.to_list()
        )
        return Examples(found, tuple(told["dropped"]), tuple(told["cut"]), tuple(told["last_only"]))
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None


def _prune(folder: Path) -> None:
    entries = sorted(folder.glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in entries[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
