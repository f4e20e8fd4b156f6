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
@click.option("--vendor", help=t(N_("Only this maker: NVIDIA, AMD, Apple.")))
@click.option("--kind", help=t(N_("Only this kind: datacenter, consumer, laptop ...")))
@click.option("--memory", type=float, metavar="GB", help=t(N_("At least so much memory.")))
@click.option("--rent", type=float, metavar="USD", help=t(N_("To be had for at most so much an hour.")))
@click.option("--json", "as_json", is_flag=True, help=t(N_("One JSON object on stdout.")))
def command(
    filter_: str,
    vendor: str | None,
    kind: str | None,
    memory: float | None,
    rent: float | None,
    as_json: bool,
) -> None:
    """List the GPUs of the catalogue, and what this computer has."""
    wanted = filter_.casefold()
    named = [card for card in known().values() if wanted in _words(card)]
    if not named:
        raise UnknownName(N_("GPU"), filter_, known(), listing="advisor gpus")
    found = [
        card
        for card in named
        if (vendor is None or card.vendor.casefold() == vendor.casefold())
        and (kind is None or kind.casefold() in card.kind.casefold())
        and (memory is None or (card.memory_gb or 0) >= memory)
        and (rent is None or (card.price_low_usd is not None and card.price_low_usd <= rent))
    ]
    here = detect()
    if as_json:
        keys = ("kind", "name", "usable_bytes", "count", "other")
        local = {key: getattr(here, key) for key in keys}
        envelope("gpus", {"here": local, "gpus": [_data(card) for card in found]})
        return
    click.echo(catalog.gpus(found, here))


def _words(card: Gpu) -> str:
    return f"{card.name} {card.vendor} {card.kind} {card.arch}".casefold()


def _data(card: Gpu) -> dict[str, object]:
    row = {key: value for key, value in asdict(card).items() if value not in (None, "")}
    return {**row, "checked": str(card.checked), "usable_bytes": card.usable_bytes}
