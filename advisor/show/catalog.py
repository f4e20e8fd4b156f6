"""The catalogue as tables: models and GPUs, one a line, 80 columns and a little."""

from collections.abc import Iterable, Iterator

from advisor.catalog.gpus import Gpu, Hardware
from advisor.catalog.models import ModelShape
from advisor.estimate.shapes import parameters
from advisor.text import N_, inert, t
from advisor.units import count, gib

MODEL, GPU = 46, 34
ESTIMATORS = {
    "closed_form": N_("formula"),
    "closed_form_moe": N_("formula +-10 %"),
    "dry_run_required": N_("dry run only"),
    "unsupported": N_("not yet"),
}
UNKNOWN = "-"
NOTHING = N_("nothing in the catalogue is all of that")


def models(shapes: Iterable[ModelShape]) -> str:
    """A line for each model: parameters, context, how memory is estimated, licence."""
    head = (t(N_("model")), t(N_("size")), t(N_("context")), t(N_("estimate")), t(N_("licence")))
    found = tuple(_model(shape) for shape in shapes) or (t(NOTHING),)
    return "\n".join((_model_line(*head), *found))


def _model(shape: ModelShape) -> str:
    context = f"{shape.context:,}" if shape.context else UNKNOWN
    licence = (shape.licence or UNKNOWN).split(" (")[0]
    return _model_line(
        inert(shape.name), size(shape), context, t(ESTIMATORS[shape.estimator]), inert(licence)
    )


def _model_line(name: str, weight: str, context: str, how: str, licence: str) -> str:
    return f"{name:<{MODEL}} {weight:>7} {context:>11}  {how:<15} {licence}".rstrip()


def size(shape: ModelShape) -> str:
    """Parameters: counted from the dimensions where we have a formula, else as published."""
    if shape.estimator.startswith("closed_form"):
        return count(parameters(shape))
    return count(shape.published_parameters) if shape.published_parameters else UNKNOWN


def gpus(cards: Iterable[Gpu], here: Hardware) -> str:
    """What this computer has, then a line for each card: memory, rates, rent in USD an hour."""
    return "\n".join(_gpus(cards, here))


def _gpus(cards: Iterable[Gpu], here: Hardware) -> Iterator[str]:
    yield t(N_("here: {name}, {usable} usable"), name=inert(here.name), usable=gib(here.usable_bytes))
    if here.other:
        yield t(N_("here too, and not used: {other}"), other=inert(here.other))
    if here.note:
        yield t(here.note, gpu=inert(here.name))
    yield ""
    head = (t(N_("card")), t(N_("memory")), t(N_("bf16")), t(N_("GB/s")), t(N_("USD/h")))
    yield _gpu_line(*head)
    listed = tuple(cards)
    if not listed:
        yield t(NOTHING)
    for card in listed:
        yield _gpu_line(
            inert(card.name),
            f"{card.memory_gb:g} GB" if card.memory_gb else UNKNOWN,
            f"{card.bf16_tflops:g} TF" if card.bf16_tflops else UNKNOWN,
            f"{card.bandwidth_gbs:g}" if card.bandwidth_gbs else UNKNOWN,
            rent(card),
        )


def _gpu_line(name: str, memory: str, rate: str, bandwidth: str, price: str) -> str:
    return f"{name:<{GPU}} {memory:>8} {rate:>9} {bandwidth:>7}  {price}".rstrip()


def rent(card: Gpu) -> str:
    """The rent with its date, or a dash."""
    if card.price_low_usd is None or card.price_high_usd is None:
        return UNKNOWN
    return f"{card.price_low_usd:.2f}-{card.price_high_usd:.2f} ({card.price_date})"
