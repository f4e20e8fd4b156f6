"""Rows of cells as aligned columns of plain text; an ideograph is as wide as two letters."""

from collections.abc import Sequence

from rich.cells import cell_len

from advisor.text import inert


def columns(rows: Sequence[Sequence[str]], gap: int = 2) -> list[str]:
    """One line a row, each column as wide as its widest cell; text from files is made harmless."""
    clean = [[" ".join(inert(cell).split()) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*clean, strict=True)]
    return [
        (" " * gap)
        .join(cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        .rstrip()
        for row in clean
    ]
