"""Datasets as text: findings with their places, and what of a row is trained. Readable without colour."""

from collections import Counter
from collections.abc import Iterator, Sequence

from advisor.data.convert import Converted
from advisor.data.findings import Finding
from advisor.data.mask import Mask
from advisor.data.tokens import is_trained
from advisor.text import N_, inert, n, t
from recipes.rows import Row, Turn

SHOWN = 20
"""Findings of one code that are shown; the others are counted."""
SHOWN_LINES = 12
"""Lines of one message in a preview."""
TRAINED, READ = "+", "."
"""The marks of a preview: the loss counts this, or it is only read."""
COLOUR, PLAIN = "\x1b[1;32m", "\x1b[0m"
"""Bold green, and its end; click takes both away where the output is no terminal."""
ROLES = {"system": N_("system"), "user": N_("user"), "assistant": N_("answer")}


def heading(converted: Converted) -> str:
    """What the file is, in one line."""
    rows = n("{count} row", "{count} rows", len(converted.rows))
    return t(
        N_("{rows}, format {format} (sure to {percent} %)"),
        rows=rows,
        format=converted.format,
        percent=f"{100 * converted.confidence:.0f}",
    )


def findings(found: Sequence[Finding]) -> str:
    """One line a finding, by code; the first `SHOWN` of each."""
    seen = Counter[str]()
    lines = list[str]()
    for finding in sorted(found, key=lambda finding: "EWI".index(finding.code[0])):
        seen[finding.code] += finding.line > 0  # what concerns the whole file is always shown
        if seen[finding.code] <= SHOWN or not finding.line:
            said = inert(t(finding.message, **finding.values)).replace("\n", " ")
            lines.append(f"{finding.code:<14} {inert(finding.place)}: {said}")
    lines += [
        t(N_("{code:<14} ... and {more} more"), code=code, more=count - SHOWN)
        for code, count in seen.items()
        if count > SHOWN
    ]
    return "\n".join(lines)


def summary(found: Sequence[Finding], left_out: int) -> str:
    """How many findings of which gravity, and what was left out."""
    levels = Counter(finding.level for finding in found)
    errors, warnings = levels["error"], levels["warning"]
    parts = [
        n("{count} error", "{count} errors", errors),
        n("{count} warning", "{count} warnings", warnings),
    ]
    if left_out:
        parts.append(n("{count} record left out", "{count} records left out", left_out))
    return ", ".join(parts)


def preview(rows: Sequence[Row], sizes: Sequence[Sequence[int]], stop: str) -> str:
    """Rows turn by turn with a mark before each line; `sizes` are tokens of each turn, `stop` what ends an answer."""
    blocks = ["\n".join(_row(row, size, stop)) for row, size in zip(rows, sizes, strict=True)]
    legend = t(
        N_("{trained} is trained (the loss counts it), {read} is only read"), trained=TRAINED, read=READ
    )
    return "\n\n".join([*blocks, legend])


def masked(found: Sequence[Mask]) -> str:
    """Rows as the trainer sees them; what is trained stands in `{+ ... +}`, and in colour where there is one."""
    blocks = [f"{inert(one.place)}\n{_spans(one)}" for one in found]
    legend = t(N_("what stands between {begin} and {end} is trained, token by token"), begin="{+", end="+}")
    return "\n\n".join([*blocks, legend])


def _spans(mask: Mask) -> str:
    if mask.flaw:
        return t(N_("cannot be trained: {reason}"), reason=inert(mask.flaw))
    parts = [
        f"{COLOUR}{{+{inert(span.text)}+}}{PLAIN}" if span.trained else inert(span.text)
        for span in mask.spans
    ]
    trained = sum(span.tokens for span in mask.spans if span.trained)
    whole = sum(span.tokens for span in mask.spans)
    return "".join(parts) + "\n" + t(N_("{trained} of {all} tokens are trained"), trained=trained, all=whole)


def _row(row: Row, sizes: Sequence[int], stop: str) -> Iterator[str]:
    yield f"{inert(row.source.file)}:{row.source.line}  ({row.source.format})"
    for turn, size in zip(row.messages, sizes, strict=True):
        yield from _turn(turn, size, stop)


def _turn(turn: Turn, size: int, stop: str) -> Iterator[str]:
    trained = is_trained(turn)
    mark, role = TRAINED if trained else READ, t(ROLES[turn.role])
    lines = inert(turn.content).split("\n")
    if len(lines) > SHOWN_LINES:
        lines = [*lines[:SHOWN_LINES], t(N_("... {more} more lines"), more=len(lines) - SHOWN_LINES)]
    if trained:
        lines[-1] += inert(stop)
    for number, line in enumerate(lines):
        head = f"{role} ({size})" if number == 0 else ""
        yield f"  {mark} {head:<14} {line}"
