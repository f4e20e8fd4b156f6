"""The base model of Lantern Bay: where it lies, and the proof that it is the one we trained."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Final

from advisor.errors import Refused
from recipes.words import N_

DIRECTORY: Final = Path(__file__).parent / "base"

SUMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "chat_template.jinja": "d6f33ad1783d641ee536c0fe7e3f72ff1c3a8e13bf93351a855e61184302f617",
        "config.json": "9c8ee6ff2aaa4f0e5a827cdd89aa053cc5ab6b54a4dc307e9bc12c4763237dac",
        "generation_config.json": "e9c42bd8c4e08af12d7090aa6d4ad66489ade8373cd9b7d49f651c60103ce14c",
        "model.safetensors": "74825d998a93e18240ba5653d9ad24df92681b377f92d586d523f8d5adc6b126",
        "tokenizer.json": "7ea6949a1551aef95e834cfb1628cd1e8c532818c774f2c9d8e0c2517cb26e29",
        "tokenizer_config.json": "7235e47178113ead26fd9dab7d31981b72979f397773dc0cc5bcfcb7291c85d7",
    }
)
"""sha256 of every file that a program loads; `benchmarks/lantern/pretrain.py` prints them for a new base."""


def base_dir(directory: Path = DIRECTORY) -> Path:
    """Return the directory of the base model (Hugging Face format, 4 MB), after checking every file.

    Raises:
        Refused: A file is missing or is not the one that was shipped.
    """
    changed = [name for name, known in SUMS.items() if _sum(directory / name) != known]
    if changed:
        raise Refused(
            N_("the base model of Lantern Bay is not the one that was shipped: {files}"),
            remedy=N_(
                "install finetune-advisor anew; to use a model of your own, name its directory in a recipe"
            ),
            where=str(directory),
            files=", ".join(changed),
        )
    return directory


def _sum(path: Path) -> str | None:
    """Return the sum of a file, or None where there is none (a link out of the package counts as none)."""
    return sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else None
