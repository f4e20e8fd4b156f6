"""`advisor models`: the models of the catalogue."""

from dataclasses import asdict

import click

from advisor.catalog.models import ModelShape
from advisor.catalog.models import models as known
from advisor.cli.voice import envelope
from advisor.errors import UnknownName
from advisor.estimate.shapes import parameters
from advisor.show import catalog
from advisor.text import N_, t


@click.command(help=t(N_("List the models of the catalogue whose name, family or licence has FILTER in it.")))
@click.argument("filter_", metavar="[FILTER]", required=False, default="")
@click.option("--json", "as_json", is_flag=True, help=t(N_("One JSON object on stdout.")))
def command(filter_: str, as_json: bool) -> None:
    """List the models of the catalogue."""
    wanted = filter_.casefold()
    found = [shape for shape in known().values() if wanted in _words(shape)]
    if not found:
        raise UnknownName(N_("model"), filter_, known(), listing="advisor models")
    if as_json:
        envelope("models", [_data(shape) for shape in found])
        return
    click.echo(catalog.models(found))


def _words(shape: ModelShape) -> str:
    return " ".join((shape.name, shape.family, shape.licence or "")).casefold()


def _data(shape: ModelShape) -> dict[str, object]:
    row = {key: value for key, value in asdict(shape).items() if value not in (None, "")}
    counted = parameters(shape) if shape.estimator.startswith("closed_form") else None
    return {**row, "checked": str(shape.checked), "parameters": counted}
