"""Findings: what is wrong with a dataset, and where, as values that the top floors say in words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from recipes.errors import Value

Level = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    `line` and `column` count from 1; a Parquet file has rows instead of lines, and 0 means the whole file.
    The first letter of `code` is the level (E, W, I). `message` is a message id whose `{name}` places
    `values` fill. A `blocking` finding took its row out of the data.
    """

    file: str
    line: int
    column: int | None
    code: str
    message: str
    values: Mapping[str, Value] = field(default_factory=dict)
    blocking: bool = False

    @property
    def level(self) -> Level:
        """How bad it is."""
        return {"E": "error", "W": "warning"}.get(self.code[:1], "info")  # type: ignore[return-value]  # literals

    @property
    def place(self) -> str:
        """`file:line:column`, as far as it is known."""
        parts = (self.file, str(self.line) if self.line else "", str(self.column) if self.column else "")
        return ":".join(part for part in parts if part)

    def __str__(self) -> str:
        return f"{self.place}: {self.code}: {self.message.format(**self.values)}"
