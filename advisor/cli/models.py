"""`advisor models`: the models of the catalogue, or one on disk."""

from dataclasses import asdict
from pathlib import Path

import click

from advisor.catalog.models import ModelShape, local
from advisor.catalog.models import models as known
from advisor.cli.voice import envelope
from advisor.errors import UnknownName
from advisor.estimate.shapes import parameters
from advisor.show import catalog
from advisor.text import N_, t


@click.command(
    help=t(
        N_(
            "List the models of the catalogue whose name, family or licence has FILTER in it, "
            "or the one in a directory."
        )
    )
)
@click.argument("filter_", metavar="[FILTER]", required=False, default="")
@click.option("--licence", help=t(N_("Only licences with this in their name: apache, mit ...")))
@click.option("--open", "ungated", is_flag=True, help=t(N_("Only models that nobody has to ask for.")))
@click.option("--larger", type=float, metavar="B", help=t(N_("At least so many billion parameters.")))
@click.option("--smaller", type=float, metavar="B", help=t(N_("At most so many billion parameters.")))
@click.option(
    "--context", type=click.IntRange(1), metavar="TOKENS", help=t(N_("Reads at least so many tokens."))
)
@click.option(
    "--estimated", is_flag=True, help=t(N_("Only models whose memory a formula gives, as planning needs."))
)
@click.option("--json", "as_json", is_flag=True, help=t(N_("One JSON object on stdout.")))
def command(
    filter_: str,
    licence: str | None,
    ungated: bool,
    larger: float | None,
    smaller: float | None,
    context: int | None,
    estimated: bool,
    as_json: bool,
) -> None:
    """List the models of the catalogue."""
    found = [
        shape
        for shape in _named(filter_)
        if (licence is None or licence.casefold() in (shape.licence or "").casefold())
        and (not ungated or shape.gated is False)
        and (larger is None or _billions(shape) >= larger)
        and (smaller is None or 0 < _billions(shape) <= smaller)
        and (context is None or shape.context >= context)
        and (not estimated or shape.estimator.startswith("closed_form"))
    ]
    if as_json:
        envelope("models", [_data(shape) for shape in found])
        return
    click.echo(catalog.models(found))


def _named(filter_: str) -> list[ModelShape]:
    """The models that `filter_` means: one directory, or all whose words have it.

    Raises:
        UnknownName: None has.
        ConfigError: A directory without a usable config.json.
    """
    if filter_ and Path(filter_).is_dir():
        return [local(Path(filter_))]
    wanted = filter_.casefold()
    found = [shape for shape in known().values() if wanted in _words(shape)]
    if not found:
        raise UnknownName(N_("model"), filter_, known(), listing="advisor models")
    return found


def _billions(shape: ModelShape) -> float:
    counted = parameters(shape) if shape.estimator.startswith("closed_form") else shape.published_parameters
    return (counted or 0) / 1e9


def _words(shape: ModelShape) -> str:
    return " ".join((shape.name, shape.family, shape.licence or "")).casefold()


def _data(shape: ModelShape) -> dict[str, object]:
    row = {key: value for key, value in asdict(shape).items() if value not in (None, "")}
    counted = parameters(shape) if shape.estimator.startswith("closed_form") else None
    return {**row, "checked": str(shape.checked), "parameters": counted}
