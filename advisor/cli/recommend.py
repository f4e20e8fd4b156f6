"""`advisor recommend`: what to do, why, how sure that is, and what would change it. Never asks."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Final

import click

from advisor.cli import voice
from advisor.cli.facts import Sources, gather, read
from advisor.decide.advice import Advice
from advisor.decide.advise import advise
from advisor.decide.answers import FACTS, Answers, parse
from advisor.errors import BadValue
from advisor.show import advice as show
from advisor.show.columns import columns
from advisor.text import N_, inert, t
from recipes.errors import Failure, RecipeError

SEQ_TOKENS: Final = 2048
"""Row length for "what fits" where nobody named one: the usual limit of a first project."""

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    help=t(N_("Say what to do: prompt, retrieve or fine-tune, and why. What is not said stays unknown."))
)
@click.option(
    "--fact", "flags", multiple=True, metavar="NAME=VALUE", help=t(N_("A fact; may be given many times."))
)
@click.option("--facts", type=_FILE, help=t(N_("A file with one JSON object, fact to value.")))
@click.option(
    "--facts-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help=t(N_("Advise on every *.json of a folder.")),
)
@click.option("--answers", metavar="FILE", help=t(N_("Saved answers, JSON or TOML; - for standard input.")))
@click.option(
    "--vram", type=float, metavar="GB", help=t(N_("Memory of one card in GB; also shows what fits."))
)
@click.option(
    "--gpu", help=t(N_("A card of the catalogue, or here for this computer's; also shows what fits."))
)
@click.option("--model", help=t(N_("A model of the catalogue, or a directory.")))
@click.option("--data", type=_FILE, help=t(N_("Examples: facts are counted in them.")))
@click.option(
    "--report", type=_FILE, help=t(N_("A report.json: what it measured counts more than what was said."))
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.md",
    help=t(N_("Also write a decision record: one page of Markdown for a ticket.")),
)
@click.option(
    "--kit",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help=t(N_("Also write a starting kit: prompt, retrieval and data plan, and a test set to fill.")),
)
@click.option("--explain", is_flag=True, help=t(N_("The whole way, with sources, and what was struck out.")))
@click.option("--vocabulary", is_flag=True, help=t(N_("List every fact and its values, and stop.")))
@click.option("--json", "as_json", is_flag=True, help=t(N_("One JSON object on stdout.")))
def command(  # noqa: D103  (the help is above)
    flags: tuple[str, ...],
    facts: Path | None,
    facts_dir: Path | None,
    answers: str | None,
    vram: float | None,
    gpu: str | None,
    model: str | None,
    data: Path | None,
    report: Path | None,
    record: Path | None,
    kit: Path | None,
    explain: bool,
    vocabulary: bool,
    as_json: bool,
) -> None:
    if vocabulary:
        _vocabulary(as_json=as_json)
    elif facts_dir is not None:
        _single_only(record or kit)
        _folder(facts_dir, as_json=as_json)
    else:
        sources = Sources(facts, answers, flags, vram, gpu, model, data, report)
        with_fits = vram is not None or gpu is not None
        _single(gather(sources), Wanted(record, kit, with_fits, explain, as_json))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make of one advice: files, the table of what fits, all reasons, JSON."""

    record: Path | None = None
    kit: Path | None = None
    fits: bool = False
    explain: bool = False
    as_json: bool = False


def _single_only(file: Path | None) -> None:
    if file is not None:
        raise BadValue(
            N_("a file about one advice was asked for, and --facts-dir gives many"),
            remedy=N_("give the facts of one with --facts FILE"),
        )


def _single(answers: Answers, wanted: Wanted) -> None:
    found = advise(answers)
    fits = _Fits(answers) if wanted.fits and answers.vram_gb else None
    written = tuple(_files(found, answers, wanted))
    if wanted.as_json:
        body = show.data(found, answers)
        more = {"fits": fits.data()} if fits else {}
        named = {"written": [str(path) for path in written]} if written else {}
        voice.envelope("recommend", body | more | named)
        return
    click.echo(show.explain(found, answers) if wanted.explain else show.text(found))
    if fits:
        click.echo("\n" + fits.text())
    for path in written:
        voice.note(N_("written: {path}"), path=str(path))


def _files(found: Advice, answers: Answers, wanted: Wanted) -> Iterator[Path]:
    """Write what was asked for; yields each path."""
    if wanted.record is not None:
        from advisor.data.store import write_whole
        from advisor.show.record import markdown

        page = markdown(found, answers, date=date.today().isoformat(), version=voice.VERSION)
        write_whole(wanted.record, [page.encode()])
        yield wanted.record
    if wanted.kit is not None:
        from advisor.show.kit import files

        yield from _kit(wanted.kit, files(found, answers))


def _kit(directory: Path, contents: Mapping[str, bytes]) -> Iterator[Path]:
    """Write the kit into a folder that holds none of it yet: a person has edited what is there."""
    from advisor.data.store import folder, write_whole

    if there := sorted(name for name in contents if (directory / name).exists()):
        raise BadValue(
            N_("the folder already has {names}"),
            remedy=N_("give a new folder; what you have edited is not overwritten"),
            where=str(directory),
            names=", ".join(there),
        )
    folder(directory)
    for name, content in contents.items():
        write_whole(directory / name, [content])
        yield directory / name


class _Fits:
    """The table of what fits on the stated card."""

    def __init__(self, answers: Answers) -> None:
        from advisor.catalog.gpus import hardware
        from advisor.plan.fits import table

        self.usable_bytes = hardware(answers.vram_gb).usable_bytes
        self.seq_tokens = answers.seq_len or SEQ_TOKENS
        self.rows = table(self.usable_bytes, self.seq_tokens)

    def data(self) -> dict[str, object]:
        return {
            "usable_bytes": self.usable_bytes,
            "seq_tokens": self.seq_tokens,
            "rows": [asdict(row) for row in self.rows],
        }

    def text(self) -> str:
        return show.fits(self.rows, self.usable_bytes, self.seq_tokens)


def _folder(directory: Path, *, as_json: bool) -> None:
    """Advise on each file; a bad one is told in its place and spoils no other."""
    paths = sorted(directory.glob("*.json"))
    if not paths:
        raise BadValue(
            N_("the folder has no *.json file"),
            remedy=N_("give a folder with fact files"),
            where=str(directory),
        )
    items = [_item(path) for path in paths]
    if as_json:
        voice.envelope("recommend", {"items": items})
        return
    for item in items:
        error = item.get("error")
        said = error["message"] if isinstance(error, dict) else item["primary"]
        click.echo(inert(f"{item['file']}: {said}"))


def _item(path: Path) -> dict[str, object]:
    try:
        answers = parse(read(path), "file", source=str(path))
        return {"file": path.name, **show.data(advise(answers), answers)}
    except Failure as failure:
        return {"file": path.name, "error": _error(failure)}


def _error(failure: Failure) -> dict[str, object]:
    notes = [str(problem) for problem in failure.problems] if isinstance(failure, RecipeError) else []
    remedy = t(failure.remedy, **failure.values)
    return {
        "code": failure.code,
        "message": t(failure.problem, **failure.values),
        "notes": notes,
        "helps": [remedy] if remedy else [],
    }


def _vocabulary(*, as_json: bool) -> None:
    if as_json:
        voice.envelope("recommend", {"vocabulary": [show.word(fact) for fact in FACTS.values()]})
        return
    click.echo("\n".join(columns([(f.name, t(f.means), f.allowed) for f in FACTS.values()])))
