"""Facts from the command line: files, flags, hardware, data and reports, each with its origin."""

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from advisor import reading
from advisor.cli import voice
from advisor.decide.answers import Answers, merge, parse, said
from advisor.errors import BadValue
from recipes.words import N_

if TYPE_CHECKING:  # pydantic is slow to load and rarely needed here
    from recipes.report import Report

STDIN: Final = "-"
HERE: Final = "here"
"""What stands for the card of this computer instead of the name of one."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where facts may come from; None and empty mean that the person gave none."""

    facts: Path | None = None
    answers: str | None = None
    flags: Sequence[str] = ()
    vram_gb: float | None = None
    gpu: str | None = None
    model: str | None = None
    data: Path | None = None
    report: Path | None = None


def gather(sources: Sources, *counted: Answers) -> Answers:
    """Merge all sources; what was measured (data, report, `counted`) wins over what was said, and says so.

    Raises:
        UnknownName, BadValue, FactsError: A fact, a value, a GPU or a model that we do not know.
        DatasetError: Data that cannot be read.
    """
    believed = list(_believed(sources))
    measured = [*counted, *_measured(sources)]
    _tell_conflicts(merge(*believed), measured)
    return merge(*believed, *measured)


def _believed(sources: Sources) -> Iterator[Answers]:
    if sources.answers is not None:
        yield parse(_saved(sources.answers), "file", source=sources.answers)
    if sources.facts:
        yield parse(read(sources.facts), "file", source=str(sources.facts))
    if sources.gpu:
        yield parse(dict(_card(sources.gpu)), "detected" if sources.gpu == HERE else "hardware")
    if sources.model:
        yield parse(dict(_model(sources.model)), "hardware")
    yield parse(_flags(sources), "flag", source="--fact")


def _measured(sources: Sources) -> Iterator[Answers]:
    if sources.data:
        from advisor.data.facts import facts as of_data

        yield parse(of_data(sources.data), "data", source=str(sources.data))
    if sources.report:
        from advisor.decide.measured import facts as of_report

        yield parse(of_report(report(sources.report)), "report", source=str(sources.report))


def _tell_conflicts(believed: Answers, measured: Sequence[Answers]) -> None:
    for part in measured:
        for fact, value in part.known().items():
            before = believed.get(fact)
            if before is not None and before != value:
                voice.note(
                    N_("{fact}={value} was measured and counts; {before} was said"),
                    fact=fact,
                    value=said(value),
                    before=said(before),
                )


def _flags(sources: Sources) -> dict[str, str | float]:
    found: dict[str, str | float] = {}
    for flag in sources.flags:
        name, sign, value = flag.partition("=")
        if not sign:
            raise BadValue(
                N_("--fact {flag!r} has no value"),
                remedy=N_("write it as name=value, such as n_labelled=800"),
                flag=flag,
            )
        found[name.strip()] = value.strip()
    return found | ({"vram_gb": sources.vram_gb} if sources.vram_gb is not None else {})


def _card(name: str) -> Iterator[tuple[str, float]]:
    if name == HERE:
        yield from _found_here()
        return
    from advisor.catalog.gpus import gpu

    card = gpu(name)
    yield "gpus", 1
    if card.memory_gb is not None:
        yield "vram_gb", card.memory_gb


def _found_here() -> Iterator[tuple[str, float]]:
    """The cards of this computer as its driver tells them; none is a fact, too."""
    from advisor.catalog.gpus import USABLE_SHARE, detect
    from advisor.units import GIB

    found = detect()
    if found.kind != "cuda":
        yield "gpus", 0
        return
    known = found.gpu.memory_gb if found.gpu else None
    yield "gpus", found.count
    yield "vram_gb", known or round(found.usable_bytes / GIB / USABLE_SHARE)


def _model(name: str) -> Iterator[tuple[str, float]]:
    from advisor.catalog.models import model
    from advisor.estimate.shapes import parameters

    shape = model(name)
    size = parameters(shape) if shape.estimator.startswith("closed_form") else shape.published_parameters
    if size:
        yield "model_params_b", round(size / 1e9, 4)
    if shape.context:
        yield "context_window", shape.context


def read(path: Path) -> Mapping[str, object]:
    """Read a file with one flat JSON object, fact to value.

    Raises:
        BadValue: It cannot be read, is no JSON, or holds something else.
    """
    try:
        found = json.loads(reading.text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(str(path), error) from None
    return _flat(found, str(path))


def _saved(name: str) -> Mapping[str, object]:
    """Read saved answers, JSON or TOML, from a file or from standard input."""
    try:
        text = sys.stdin.read() if name == STDIN else reading.text(Path(name))
        found = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(name, error) from None
    if not text.strip():  # empty TOML is lawful; here it is a command before ours that failed
        found = None
    inner = found.get("facts") if isinstance(found, dict) else None
    return _flat(inner if isinstance(inner, dict) else found, name)


def _flat(found: object, where: str) -> Mapping[str, object]:
    if not isinstance(found, dict):
        raise BadValue(
            N_("the file holds no object of facts"),
            remedy=N_('write {{"n_labelled": 800, ...}}'),
            where=where,
        )
    return found


def _unreadable(where: str, error: Exception) -> BadValue:
    return BadValue(
        N_("the file cannot be read: {reason}"),
        remedy=N_("give a readable file with one JSON object, fact to value"),
        where=where,
        reason=(error.strerror or str(error)) if isinstance(error, OSError) else str(error),
    )


def report(path: Path) -> "Report":
    """Read the report of a run or of a measurement.

    Raises:
        BadValue: It cannot be read, or is no report.
    """
    from pydantic import ValidationError

    from recipes.report import Report

    try:
        return Report.model_validate_json(reading.whole(path))
    except OSError as error:
        raise _unreadable(str(path), error) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise BadValue(
            N_("this is no report of ours: {key}: {reason}"),
            remedy=N_("give the report.json of a run or of `advisor measure`"),
            where=str(path),
            key=".".join(map(str, first["loc"])) or "file",
            reason=first["msg"],
        ) from None
