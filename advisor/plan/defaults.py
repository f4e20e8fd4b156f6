"""Defaults: each hyper-parameter, how it depends on data, model and hardware, and who says so.

Bands and constants are data; a function picks one and returns it with its reason. The decision record
"docs/adr/0013" lists the disagreements among the sources.
"""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Final, Generic, Literal, TypeVar

from advisor.catalog.gpus import Hardware
from advisor.catalog.models import ModelShape
from advisor.data.stats import DataStats
from advisor.estimate.shapes import parameters
from advisor.plan.methods import (
    FEW_WEIGHTS,
    FEW_WEIGHTS_PASSES,
    METHODS,
    SMALL_TEXT,
    USUAL_TEXT,
    Method,
    rated,
)
from advisor.plan.proposal import Reason
from advisor.units import count
from recipes.plan import Adaptation, Full, LastLayers, Lora
from recipes.words import N_

T = TypeVar("T")

ROUND_TOKENS: Final = 64
"""Lengths are rounded up to this, so that kernels and recompilations see few shapes."""
STEPS_AIM: Final = (100, 2000)
STEPS_FEW: Final = 60
WARMUP_STEPS: Final = 5
WARMUP_SHARE: Final = 0.05
WARMUP_MOST: Final = 0.2
SAVES_A_RUN: Final = 10
BATCH_OF_RATES: Final = 16
"""The rows per step for which the learning rates below were published; others scale with the square root."""
SMALL: Final = 100_000_000
"""Below this many parameters the published rates are far too low: measured on the embedded 2M-parameter model."""
SMALL_FULL: Final = 500_000_000
LARGE: Final = 30_000_000_000
FEW_ROWS: Final = 300
MICRO_TOKENS: Final = {"cuda": 8192, "cpu": 2048}
"""Where a micro-batch starts: 8,192 tokens fill a GPU's matrix units; a CPU gains nothing beyond its caches."""
LAST_SHARE: Final = 1 / 3
"""The share of the blocks that partial freezing trains: the upper end of 1/4 to 1/3 (Lee et al., 2019)."""


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """A value and the reason for it."""

    value: T
    why: Reason


@dataclass(frozen=True, slots=True)
class EpochBand:
    """How often to see the data when it has fewer than `rows` rows: usually, and within which limits."""

    rows: float
    usual: int
    least: int
    most: int


EPOCHS: Final = (
    EpochBand(300, 4, 3, 5),
    EpochBand(1_000, 3, 3, 3),
    EpochBand(5_000, 3, 2, 3),
    EpochBand(50_000, 2, 1, 2),
    EpochBand(float("inf"), 1, 1, 1),
)
"""Small sets are seen more often; a large one is read once (LIMA's 15 epochs are the known exception)."""

RANKS: Final = ((200, 8), (50_000, 16), (float("inf"), 64))
"""LoRA rank by rows: capacity is almost never the limit below 10,000 rows."""


def epochs(stats: DataStats, batch_rows: int, adaptation: Adaptation | None = None) -> Choice[float]:
    """Passes over the data: by its size, then moved towards 100 to 2,000 optimizer steps; more for few weights."""
    band = next(b for b in EPOCHS if stats.rows < b.rows)
    steps = stats.rows / batch_rows
    value = band.usual
    if steps * value < STEPS_AIM[0]:
        value = band.most
    if steps * value > STEPS_AIM[1]:
        value = band.least
    text = N_("{rows} rows: {least} to {most} passes are usual; aims at 100 to 2,000 optimizer steps")
    if band.least == band.most:
        text = N_("{rows} rows: {most} passes are usual")
    values: dict[str, str | int | float] = {"rows": stats.rows, "least": band.least, "most": band.most}
    if adaptation is not None and adaptation.kind in FEW_WEIGHTS:
        text = N_(
            "{rows} rows: {most} passes would be usual, but {kind} learned the embedded task in four times as many"
        )
        values = {"rows": stats.rows, "most": value, "kind": adaptation.kind}
        return Choice(float(value * FEW_WEIGHTS_PASSES), Reason(text, values, "embedded-example"))
    return Choice(float(value), Reason(text, values, "wshobson-agents"))


def batch_rows(stats: DataStats) -> Choice[int]:
    """Rows per optimizer step: 16, fewer where the data would give too few steps."""
    if stats.rows >= 500:
        return Choice(
            16, Reason(N_("16 rows a step: LoRA loses with batches above 32"), {}, "lora-without-regret")
        )
    band = next(b for b in EPOCHS if stats.rows < b.rows)
    value = 8 if stats.rows * band.most / 8 >= STEPS_FEW else 4
    text = N_("{batch} rows a step: {rows} rows would give too few steps of 16")
    return Choice(value, Reason(text, {"batch": value, "rows": stats.rows}, "ours"))


def length_tokens(stats: DataStats, shape: ModelShape) -> Choice[int]:
    """The longest row: all of them, unless the longest hundredth is more than twice as long as the rest."""
    keeps_all = stats.longest_tokens <= 2 * stats.p99_tokens
    wanted = _rounded(stats.longest_tokens if keeps_all else stats.p99_tokens)
    if shape.context and wanted > shape.context:
        text = N_("the model reads at most {context} tokens")
        return Choice(shape.context, Reason(text, {"context": shape.context}, "data"))
    if keeps_all:
        text = N_("the longest row has {longest} tokens; nothing is dropped")
        return Choice(wanted, Reason(text, {"longest": stats.longest_tokens}, "data"))
    text = N_("99 of 100 rows have at most {p99} tokens; the longest has {longest} and would cost memory")
    values = {"p99": stats.p99_tokens, "longest": stats.longest_tokens}
    return Choice(wanted, Reason(text, values, "data"))


def _rounded(tokens: float) -> int:
    return max(ROUND_TOKENS, ceil(tokens / ROUND_TOKENS) * ROUND_TOKENS)


def micro_batch_tokens(stats: DataStats, rows: int, length: int, hardware: Hardware) -> Choice[int]:
    """Tokens of one flat row: a whole step if it is small, else what the hardware likes; never below a row."""
    step = _rounded(rows * stats.mean_tokens)
    value = max(length, min(step, MICRO_TOKENS[hardware.kind]))
    text = N_("{rows} rows of {mean} tokens on average, at most {most} at once on this kind of device")
    values: dict[str, str | int | float] = {
        "rows": rows,
        "mean": round(stats.mean_tokens),
        "most": MICRO_TOKENS[hardware.kind],
    }
    return Choice(value, Reason(text, values, "hardware"))


def accumulation(stats: DataStats, rows: int, micro_tokens: int) -> Choice[int]:
    """Micro-batches per step, so that a step has about `rows` rows."""
    value = max(1, round(rows * stats.mean_tokens / micro_tokens))
    text = N_("{value} micro-batches make a step of about {rows} rows")
    return Choice(value, Reason(text, {"value": value, "rows": rows}, "data"))


def rank(stats: DataStats) -> Choice[int]:
    """LoRA rank by the amount of data."""
    value = next(rank for rows, rank in RANKS if stats.rows < rows)
    text = N_("rank {value} for {rows} rows: capacity is almost never the limit below 10,000")
    return Choice(value, Reason(text, {"value": value, "rows": stats.rows}, "tinker-lora-primer"))


def last_layers(shape: ModelShape) -> Choice[int]:
    """How many of the last blocks are trained."""
    value = max(1, round(shape.layers * LAST_SHARE))
    text = N_("the last third of {layers} blocks: earlier ones hold what is general")
    return Choice(value, Reason(text, {"layers": shape.layers}, "lee2019"))


@dataclass(frozen=True, slots=True)
class Rate:
    """A published or measured learning rate for models below `parameters` weights."""

    parameters: float
    value: float
    text: str
    source: str


_VERY_SMALL: Final = N_(
    "models below 0.1B parameters need far higher rates, as measured on the embedded one: {base}, "
    "times {factor} for batch and amount of data ({size} parameters)"
)
FULL_RATES: Final = (
    Rate(SMALL, 1e-3, _VERY_SMALL, "embedded-example"),
    Rate(
        SMALL_FULL,
        1e-3,
        N_("the recipe of SmolLM2-360M: {base}, times {factor} for batch and amount of data"),
        "alignment-handbook",
    ),
    Rate(
        float("inf"),
        2e-5,
        N_("full tuning moves every weight, so gently: {base}, times {factor} for batch and amount of data"),
        "trl",
    ),
)
LORA_RATES: Final = (
    Rate(SMALL, 3e-3, _VERY_SMALL, "embedded-example"),
    Rate(
        LARGE,
        2e-4,
        N_("adapters learn at ten times the rate of full tuning: {base}, times {factor} for batch and data"),
        "trl",
    ),
    Rate(
        float("inf"),
        1e-4,
        N_(
            "above 30B parameters half of the usual rate: {base}, times {factor} for batch and amount of data"
        ),
        "dettmers2023",
    ),
)
"""Below 0.1B: docs/adr/0012. The others: TRL's table (full text), the QLoRA paper (from memory)."""


def learning_rate(
    adaptation: Adaptation, shape: ModelShape, stats: DataStats, epochs_: float, rows: int
) -> Choice[float]:
    """The rate of the method and the model's size; halved for little data, scaled with the root of the batch."""
    rates = LORA_RATES if isinstance(adaptation, Lora) else _rates_of(adaptation) or FULL_RATES
    size = parameters(shape)
    base = next(rate for rate in rates if size < rate.parameters)
    halved = stats.rows < FEW_ROWS or epochs_ > 3
    factor = sqrt(rows / BATCH_OF_RATES) * (0.5 if halved else 1.0)
    if adaptation.kind in FEW_WEIGHTS:
        factor = 1.0  # measured: they learn too slowly as it is, and cannot be moved far
    values: dict[str, str | int | float] = {
        "base": f"{base.value:g}",
        "factor": f"{factor:.2g}",
        "size": count(size),
        "method": adaptation.kind,
    }
    return Choice(_two_digits(base.value * factor), Reason(base.text, values, base.source))


def _rates_of(adaptation: Adaptation) -> tuple[Rate, ...]:
    """The rates of a method that is asked for by name; none where it is one of those above."""
    match rated(adaptation):
        case (_, Method(small=float(small), rate=float(usual), rate_source=source)):
            return (
                Rate(SMALL, small, SMALL_TEXT, "embedded-example"),
                Rate(float("inf"), usual, USUAL_TEXT, source),
            )
        case _:
            return ()


def _two_digits(value: float) -> float:
    return float(f"{value:.1e}")


def weight_decay(adaptation: Adaptation) -> Choice[float]:
    """A little, except on a 4-bit base."""
    if isinstance(adaptation, Lora) and adaptation.base == "nf4":
        return Choice(0.0, Reason(N_("the QLoRA recipes have none"), {}, "dettmers2023"))
    return Choice(0.01, Reason(N_("a little; from 0 to 0.1 it hardly matters"), {}, "peft-comparison"))


def warmup_share(steps: int) -> Choice[float]:
    """Five steps at least, else a twentieth: the first moments of AdamW are noise."""
    share = min(WARMUP_MOST, max(WARMUP_SHARE, WARMUP_STEPS / max(1, steps)))
    text = N_("at least {least} of about {steps} steps: AdamW's first averages are noise")
    return Choice(round(share, 3), Reason(text, {"least": WARMUP_STEPS, "steps": steps}, "trl"))


def every_steps(steps: int) -> Choice[int]:
    """How often to save and to look at the held-out loss: about ten times a run."""
    value = max(1, min(500, ceil(steps / SAVES_A_RUN)))
    return Choice(value, Reason(N_("about ten times in about {steps} steps"), {"steps": steps}, "ours"))


def threads(shape: ModelShape, hardware: Hardware) -> Choice[int | None]:
    """CPU threads: one for a very small model, whose matrices are too small to share; else the trainer's choice."""
    if hardware.kind == "cpu" and parameters(shape) < SMALL:
        text = N_("matrices of this size are done sooner by one thread than two threads agree")
        return Choice(1, Reason(text, {}, "embedded-example"))
    return Choice(None, Reason(N_("as many as the trainer finds"), {}, "hardware"))


def dtype(hardware: Hardware) -> Choice[Literal["float32", "bfloat16"]]:
    """bfloat16 where the hardware computes in it; float16 needs a loss scale that can fail, so never."""
    if hardware.has_bf16:
        return Choice(
            "bfloat16", Reason(N_("half the memory, and {name} computes in it"), _name(hardware), "hardware")
        )
    if hardware.kind == "cpu":
        return Choice(
            "float32", Reason(N_("a CPU computes float32 fastest and most exactly"), {}, "hardware")
        )
    return Choice(
        "float32",
        Reason(
            N_("{name} has no bfloat16, and float16 would need loss scaling"), _name(hardware), "hardware"
        ),
    )


def _name(hardware: Hardware) -> dict[str, str | int | float]:
    return {"name": hardware.name}


def steps(stats: DataStats, epochs_: float, micro_tokens: int, accumulation_: int) -> int:
    """Optimizer steps of a run, about: rows are packed, so tokens decide; how well they pack, only the run knows."""
    per_epoch = max(1, ceil(stats.tokens / micro_tokens))
    return max(1, ceil(per_epoch * epochs_ / accumulation_))


def adaptation(leaf: str, shape: ModelShape, stats: DataStats) -> tuple[Adaptation, dict[str, Reason]] | None:
    """What moves, for a leaf of the decision graph or a method by name, with its reasons; None for other leaves."""
    match leaf:
        case "sft_full":
            text = N_("every weight moves: far data, and enough of it")
            return Full(), {"adaptation.kind": Reason(text, {}, "biderman2024")}
        case "sft_partial_freeze":
            layers = last_layers(shape)
            text = N_("only the last blocks move: little memory, and what is general stays")
            kind = Reason(text, {}, "lee2019")
            return LastLayers(layers=layers.value), {"adaptation.kind": kind, "adaptation.layers": layers.why}
        case "sft_lora":
            return _lora(stats, "dense")
        case "sft_qlora":
            return _lora(stats, "nf4")
        case _ if leaf in METHODS:
            method = METHODS[leaf]
            if isinstance(method.adaptation, Lora):
                reasons = lora_reasons(method.adaptation, method.why)
                return method.adaptation, {**reasons, "adaptation.kind": method.why}
            return method.adaptation, {"adaptation.kind": method.why}
        case _:
            return None


def _lora(stats: DataStats, base: Literal["dense", "nf4"]) -> tuple[Lora, dict[str, Reason]]:
    chosen = rank(stats)
    lora = Lora(base=base, rank=chosen.value, alpha=2.0 * chosen.value)
    return lora, lora_reasons(lora, chosen.why)


def lora_reasons(lora: Lora, rank_why: Reason) -> dict[str, Reason]:
    """Reasons for the fields of a LoRA adaptation; the base's depends on which one it is."""
    dense = N_("the base is not quantised: exact, and faster than 4 bit")
    nf4 = N_("a 4-bit base: about a quarter of the memory at nearly the same quality")
    found = {
        "kind": Reason(N_("few weights learn, the model keeps what it knows"), {}, "biderman2024"),
        "base": Reason(nf4 if lora.base == "nf4" else dense, {}, "dettmers2023"),
        "double_quantisation": Reason(N_("also stores the 4-bit scales in 8 bit"), {}, "dettmers2023"),
        "rank": rank_why,
        "alpha": Reason(N_("twice the rank, so that the rate need not follow the rank"), {}, "biderman2024"),
        "dropout": Reason(N_("none: it costs memory, and gains little here"), {}, "lora-without-regret"),
        "rslora": Reason(N_("only worth a try from rank 64 on"), {}, "kalajdzievski2023"),
        "dora": Reason(
            N_("off: a quarter to a third slower, and rarely better than a higher rank"), {}, "ours"
        ),
        "name": Reason(N_("the only adapter"), {}, "ours"),
        "beneath": Reason(N_("no adapter stands on the base already"), {}, "ours"),
        "targets": Reason(N_("all linear layers: attention alone learns less"), {}, "lora-without-regret"),
    }
    return {f"adaptation.{name}": reason for name, reason in found.items()}
