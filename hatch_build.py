"""Compile the gettext catalogues (.po to .mo) when a wheel, or an editable install, is built."""

from pathlib import Path
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileCatalogues(BuildHookInterface[Any]):
    """Write each catalogue beside its source; git ignores the result, the wheel ships it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before hatchling collects files; `version` is "standard" or "editable"."""
        for source in Path(self.root, "advisor", "locale").glob("*/LC_MESSAGES/*.po"):
            with source.open("rb") as words:
                catalogue = read_po(words)
            target = source.with_suffix(".mo")
            with target.open("wb") as compiled:
                write_mo(compiled, catalogue)
            build_data["artifacts"].append(target.relative_to(self.root).as_posix())
