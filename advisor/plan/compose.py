"""From advice to a plan: every field filled with a default, every default with its reason, until it fits."""

import re
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from advisor.catalog.gpus import Hardware
from advisor.catalog.models import ModelShape
from advisor.data.stats import DataStats
from advisor.errors import AdvisorError, BadValue
from advisor.estimate.setup import require_known, setup
from advisor.estimate.time import Timing, Untimed, timing
from advisor.plan import defaults
from advisor.plan.fit import Fitted, conceded
from advisor.plan.proposal import Proposal, Reason
from recipes.plan import Adaptation, Data, Evaluation, Layout, Model, Plan, Predicted, Schedule
from recipes.read import made
from recipes.words import N_

TRAINED_LEAVES: Final = ("sft_lora", "sft_qlora", "sft_full", "sft_partial_freeze")
"""The leaves of the decision graph that the built-in trainer trains."""


class NotTrained(AdvisorError):
    """A leaf that ends in a guide, or whose trainer is not built yet."""

    code = "P0104"


@dataclass(frozen=True, slots=True)
class RowFiles:
    """The rows of a run: paths relative to the recipe, and the sums that bind it to them."""

    train: str
    train_sha256: str
    held_out: str
    held_out_sha256: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: a leaf of the advice, a model, data and hardware. The rest are defaults."""

    leaf: str
    name: str
    model_id: str
    shape: ModelShape
    data: RowFiles
    stats: DataStats
    evaluation: Evaluation
    hardware: Hardware
    processes: int = 1
    revision: str | None = None


def run_name(stem: str) -> str:
    """A name for the run from the data's: small letters, digits, dots and hyphens."""
    return re.sub(r"[^a-z0-9._-]+", "-", stem.casefold()).strip("-._")[:64] or "run"


def propose(wanted: Wanted) -> Proposal:
    """Fill a plan with defaults, and concede until the upper bound of its memory fits the hardware.

    Raises:
        NotTrained: The leaf has no built-in trainer.
        Unsupported: No formula tells the model's memory.
        BadValue: There is no token to train on.
        NothingFits: Whatever is conceded; the nearest change is computed.
    """
    require_known(wanted.shape)
    plan, why = first(wanted)
    fitted = conceded(plan, wanted.shape, wanted.stats, wanted.hardware)
    return finished(replace(fitted, why={**why, **fitted.why}), wanted)


def finished(fitted: Fitted, wanted: Wanted) -> Proposal:
    """A proposal of a plan that fits: with its time, and what is predicted written into it."""
    found = timed(fitted.plan, wanted)
    seconds = found.total if isinstance(found, Timing) else None
    predicted = Predicted(
        peak_bytes=fitted.estimate.allocated,
        seconds_low=seconds.low if seconds else None,
        seconds_high=seconds.high if seconds else None,
        gpu=wanted.hardware.gpu.name if wanted.hardware.gpu else None,
    )
    done = fitted.plan.model_copy(update={"predicted": predicted})
    return Proposal(
        plan=done,
        why=MappingProxyType({**fitted.why, **_predicted_reasons(predicted, fitted.estimate.profile)}),
        estimate=fitted.estimate,
        timing=found,
        fit=fitted.fit,
        concessions=fitted.concessions,
    )


def timed(plan: Plan, wanted: Wanted) -> Timing | Untimed:
    """How long `plan` trains on the data and hardware of `wanted`, and what that costs."""
    schedule, stats = plan.schedule, wanted.stats
    one = setup(plan, wanted.shape, stats, device=wanted.hardware.kind)
    tokens = stats.tokens * schedule.epochs
    return timing(one, wanted.hardware, tokens, accumulation=schedule.accumulation, nodes=plan.layout.nodes)


def first(wanted: Wanted) -> tuple[Plan, dict[str, Reason]]:
    """The plan with every default, before anything is conceded."""
    stats, shape, hardware = wanted.stats, wanted.shape, wanted.hardware
    if stats.rows < 1 or stats.tokens < 1:
        raise BadValue(
            N_("there is nothing to train on: {rows} rows with {tokens} tokens"),
            remedy=N_("check the data with `advisor data`"),
            rows=stats.rows,
            tokens=stats.tokens,
        )
    found = defaults.adaptation(wanted.leaf, shape, stats)
    if found is None:
        raise NotTrained(
            N_("{leaf} is not trained by the built-in trainer"),
            remedy=N_("it trains {leaves}; for the others `advisor recommend` says what to do"),
            leaf=wanted.leaf,
            leaves=", ".join(TRAINED_LEAVES),
        )
    adaptation, adaptation_why = found
    length = defaults.length_tokens(stats, shape)
    schedule, schedule_why = _schedule(wanted, adaptation, length.value)
    dtype, threads = defaults.dtype(hardware), defaults.threads(shape, hardware)
    values = {
        "name": wanted.name,
        "model": made(
            Model,
            {"id": wanted.model_id, "revision": wanted.revision, "dtype": dtype.value},
            "model",
        ),
        "adaptation": adaptation,
        "data": Data(
            train=wanted.data.train,
            train_sha256=wanted.data.train_sha256,
            held_out=wanted.data.held_out,
            held_out_sha256=wanted.data.held_out_sha256,
            length_tokens=length.value,
        ),
        "schedule": schedule,
        "evaluation": wanted.evaluation,
        "layout": Layout(processes=wanted.processes, device=hardware.kind, threads=threads.value),
    }
    plan = made(Plan, values, "recipe")
    why = {
        **adaptation_why,
        **schedule_why,
        **_given_reasons(wanted),
        "model.dtype": dtype.why,
        "layout.threads": threads.why,
        "data.length_tokens": length.why,
    }
    return plan, why


def _schedule(wanted: Wanted, adaptation: Adaptation, length: int) -> tuple[Schedule, dict[str, Reason]]:
    """How the weights move. Rows per step decide the rest, so they are chosen first."""
    stats, hardware = wanted.stats, wanted.hardware
    rows = defaults.batch_rows(stats)
    epochs = defaults.epochs(stats, rows.value, adaptation)
    micro = defaults.micro_batch_tokens(stats, rows.value, length, hardware)
    held = defaults.accumulation(stats, rows.value, micro.value)
    steps = defaults.steps(stats, epochs.value, micro.value, held.value)
    rate = defaults.learning_rate(adaptation, wanted.shape, stats, epochs.value, rows.value)
    decay, warmup = defaults.weight_decay(adaptation), defaults.warmup_share(steps)
    often = defaults.every_steps(steps)
    schedule = Schedule(
        epochs=epochs.value,
        micro_batch_tokens=micro.value,
        accumulation=held.value,
        learning_rate=rate.value,
        warmup_share=warmup.value,
        weight_decay=decay.value,
        save_every_steps=often.value,
        evaluate_every_steps=often.value,
    )
    why = {
        "epochs": epochs.why,
        "micro_batch_tokens": micro.why,
        "accumulation": rows.why if held.value == 1 else held.why,
        "learning_rate": rate.why,
        "decay": Reason(N_("falls smoothly to nothing, so that the last steps settle"), {}, "trl"),
        "warmup_share": warmup.why,
        "weight_decay": decay.why,
        "clip_norm": Reason(N_("one wild batch must not undo the others"), {}, "pascanu2012"),
        "optimizer": Reason(N_("the fused form: no copy of what it trains"), {}, "loshchilov2017"),
        "exact_weights": Reason(
            N_("16 bits cannot hold small steps; the bits that are missing are kept apart"), {}, "zamirai2020"
        ),
        "checkpointing": Reason(
            N_("off: recomputing would cost a third to a half more time"), {}, "chen2016"
        ),
        "checkpointing_layers": Reason(N_("if recomputed at all: each block by itself"), {}, "chen2016"),
        "checkpointing_offload": Reason(N_("off: moving activations costs time"), {}, "ours"),
        "seed": Reason(N_("fixed, so that the run can be repeated"), {}, "ours"),
        "save_every_steps": often.why,
        "keep_checkpoints": Reason(N_("the last two: an older one is there if one is damaged"), {}, "ours"),
        "evaluate_every_steps": often.why,
    }
    return schedule, {f"schedule.{key}": reason for key, reason in why.items()}


def _given_reasons(wanted: Wanted) -> dict[str, Reason]:
    """Reasons of what was given or counted, not chosen here."""
    stats = wanted.stats
    rows: dict[str, str | int | float] = {"rows": stats.rows}
    judged: dict[str, str | int | float] = {"rows": wanted.evaluation.rows}
    binds = Reason(N_("binds the recipe to these rows: a run refuses other ones"), {}, "ours")
    hand = Reason(N_("the arms that the tuned model must beat"), {}, "ours")
    return {
        "schema_version": Reason(N_("the form of this file"), {}, "ours"),
        "name": Reason(N_("also the name of the run's directory"), {}, "you"),
        "model.id": Reason(N_("the model that you chose"), {}, "you"),
        "model.revision": Reason(N_("the exact version that was looked at"), {}, "you"),
        "objective.kind": Reason(N_("learn the answers of your examples"), {}, "ours"),
        "data.train": Reason(N_("{rows} rows"), rows, "data"),
        "data.train_sha256": binds,
        "data.held_out": Reason(N_("never trained on: the judge of the run"), {}, "data"),
        "data.held_out_sha256": binds,
        "data.too_long": Reason(N_("a row is never cut: half an answer teaches to stop early"), {}, "ours"),
        "evaluation.rows": Reason(N_("{rows} held-out rows are judged"), judged, "ours"),
        "evaluation.max_new_tokens": Reason(N_("room for an answer of the usual length"), {}, "data"),
        "evaluation.shots": hand,
        "evaluation.prompt": hand,
        "evaluation.few_shot_prompt": hand,
        "evaluation.primary": Reason(N_("the score that decides the verdict"), {}, "you"),
        "layout.processes": Reason(N_("one process for each device that is used"), {}, "hardware"),
        "layout.nodes": Reason(N_("one computer"), {}, "hardware"),
        "layout.sharding": Reason(N_("nothing is divided: one device holds it all"), {}, "ours"),
        "layout.functions": Reason(
            N_("ours keep less for the backward and give the same values"), {}, "ours"
        ),
        "layout.compile": Reason(N_("only where a run is long enough to earn it back"), {}, "ours"),
        "layout.cuda_graph": Reason(N_("off: an experiment"), {}, "ours"),
        "layout.deterministic": Reason(N_("off: the same bits each time cost speed on a GPU"), {}, "ours"),
        "layout.device": Reason(N_("{name}"), {"name": wanted.hardware.name}, "hardware"),
    }


def _predicted_reasons(predicted: Predicted, profile: str) -> dict[str, Reason]:
    values: dict[str, str | int | float] = {"profile": profile}
    memory = Reason(N_("the estimate when this was written ({profile})"), values, "dry-run")
    found = {f"predicted.{key}": memory for key in ("peak_bytes", "seconds_low", "seconds_high")}
    return {**found, "predicted.gpu": Reason(N_("the card that was assumed"), {}, "hardware")}
