"""`advisor gpus`: the GPUs of the catalogue, and what this computer has."""

from dataclasses import asdict

import click

from advisor.catalog.gpus import Gpu, detect
from advisor.catalog.gpus import gpus as known
from advisor.cli.voice import envelope
from advisor.errors import UnknownName
from advisor.show import catalog
from advisor.text import N_, t


@click.command(
    help=t(N_("List the GPUs of the catalogue that have FILTER in them, and the one in this computer."))
)
@click.argument("filter_", metavar="[FILTER]", required=False, default="")
@click.option("--json", "as_json", is_flag=True, help=t(N_("One JSON object on stdout.")))
def command(filter_: str, as_json: bool) -> None:
    """List the GPUs of the catalogue, and what this computer has."""
    wanted = filter_.casefold()
    found = [card for card in known().values() if wanted in _words(card)]
    if not found:
        raise UnknownName(N_("GPU"), filter_, known(), listing="advisor gpus")
    here = detect()
    if as_json:
        local = {"kind": here.kind, "name": here.name, "usable_bytes": here.usable_bytes, "count": here.count}
        envelope("gpus", {"here": local, "gpus": [_data(card) for card in found]})
        return
    click.echo(catalog.gpus(found, here))


def _words(card: Gpu) -> str:
    return f"{card.name} {card.vendor} {card.kind} {card.arch}".casefold()


def _data(card: Gpu) -> dict[str, object]:
    row = {key: value for key, value in asdict(card).items() if value not in (None, "")}
    return {**row, "checked": str(card.checked), "usable_bytes": card.usable_bytes}
