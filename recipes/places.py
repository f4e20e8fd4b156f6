"""Where the keys of a recipe stand: the parser of the standard library does not keep it."""

import re
from collections.abc import Iterator


def places(text: str) -> Iterator[tuple[str, int]]:
    """Each dotted key and each table with its line (from 1), as far as a line by itself shows it."""
    table = ""
    for number, line in enumerate(text.split("\n"), start=1):
        if header := re.match(r"\s*\[([\w.\-]+)\]", line):
            table = header[1]
            yield table, number
        elif assigned := re.match(r"\s*[\"']?([\w\-]+)[\"']?\s*=", line):
            yield f"{table}.{assigned[1]}".lstrip("."), number
