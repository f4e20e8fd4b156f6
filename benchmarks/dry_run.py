"""The native closed form against the dry run: how far apart, by moment and method, on models from 0.5B to 14B.

Run: `python benchmarks/dry_run.py [OUT.json] [--dpo] [--only TEXT] [--reserved]`. Each configuration is a recipe; the
closed form (`advisor.estimate`) and the dry run (`trainers.dryrun`: the trainer itself on tensors without memory) say
its peak on one CUDA device. Neither is a measurement: where they agree, two different ways to the same bytes do.

`--dpo` is a section of its own: the objective of `preference.py`, which the trainer does not have, in its place.
"""

import argparse
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # nothing is compiled

from preference import Reference, dpo

from advisor.catalog.models import ModelShape, model
from advisor.estimate.memory import estimate
from advisor.estimate.setup import setup
from advisor.run.dry_config import config
from recipes.errors import Failure
from recipes.plan import (
    Adaptation,
    Bottleneck,
    Data,
    Full,
    Ia3,
    LastLayers,
    Layout,
    Lora,
    Model,
    Named,
    Plan,
    Prefix,
    PromptTuning,
    PTuning,
    Schedule,
    method,
)
from trainers.dryrun import dry_run
from trainers.run.equip import tuning

NOTHING = "0" * 64
LAYOUT = {"functions"}
DATA = {"length_tokens"}
SHARE = "label_share"


@dataclass(frozen=True)
class Case:
    """One recipe on one model; `label_share` of its tokens is trained. With a `reference` rows hold pairs, for DPO."""

    model: str
    adaptation: Adaptation
    options: dict[str, Any]
    reference: Reference | None = None

    @property
    def name(self) -> str:
        """Model, method and what is unlike the default."""
        given = self.adaptation.model_dump(exclude_defaults=True, exclude={"kind", "base", "dora"})
        said = " ".join(f"{key}={_short(value)}" for key, value in {**given, **self.options}.items())
        dpo = f"dpo reference={self.reference} " if self.reference else ""
        return f"{self.model.split('/')[-1]} {method(self.adaptation)} {dpo}{said}".strip()

    @property
    def plan(self) -> Plan:
        """The recipe."""
        given = {key: value for key, value in self.options.items() if key not in LAYOUT | DATA | {SHARE}}
        layout = {key: value for key, value in self.options.items() if key in LAYOUT}
        schedule = {"epochs": 1.0, "micro_batch_tokens": 4096, "learning_rate": 1e-4} | given
        length = self.options.get("length_tokens", 2048)
        files = {"train": "t", "train_sha256": NOTHING, "held_out": "h", "held_out_sha256": NOTHING}
        return Plan(
            name="dry",
            model=Model(id=self.model),
            adaptation=self.adaptation,
            data=Data(**files, length_tokens=length),
            schedule=Schedule(**schedule),
            layout=Layout(device="cuda", **layout),
        )


def _short(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


class Share:
    """The counts of a dataset, as far as an estimate asks: which share of the tokens is trained."""

    def __init__(self, share: float, longest: int) -> None:
        self.tokens = 10**9
        self.trained_tokens = round(self.tokens * share)
        self.longest_tokens = longest


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MODELS = (
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-8B",
    "meta-llama/Llama-3.2-1B",
    "meta-llama/Llama-3.1-8B",
    "mistralai/Mistral-7B-v0.3",
    "Qwen/Qwen2.5-7B",
    "allenai/OLMo-2-1124-7B",
    "google/gemma-3-1b-it",
    "microsoft/Phi-3-mini-4k-instruct",
    "HuggingFaceTB/SmolLM3-3B",
)
EVERYWHERE: tuple[tuple[Adaptation, dict[str, Any]], ...] = (
    (Lora(), {}),
    (Lora(), {"checkpointing": True}),
    (Lora(base="nf4"), {"checkpointing": True, "micro_batch_tokens": 8192}),
    (Full(), {"checkpointing": True}),
    (Full(), {"functions": "stock"}),
)
ON_ONE: tuple[tuple[Adaptation, dict[str, Any]], ...] = (
    (Lora(rank=64), {}),
    (Lora(rank=256, rslora=True), {"checkpointing": True}),
    (Lora(targets=ATTENTION), {}),
    (Lora(targets=("q_proj", "v_proj")), {"checkpointing": True}),
    (Lora(), {"functions": "stock"}),
    (Lora(), {"functions": "stock", "checkpointing": True}),
    (Lora(), {"label_share": 0.25}),
    (Lora(), {"label_share": 0.1, "checkpointing": True}),
    (Lora(), {"micro_batch_tokens": 1024, "length_tokens": 512}),
    (Lora(), {"micro_batch_tokens": 16384, "length_tokens": 16384, "checkpointing": True}),
    (Lora(), {"accumulation": 8}),
    (Lora(), {"checkpointing": True, "checkpointing_layers": 4}),
    (Lora(dropout=0.05), {}),
    (Lora(dropout=0.05), {"checkpointing": True}),
    (Lora(dropout=0.05, targets=ATTENTION), {"checkpointing": True, "label_share": 0.25}),
    (Lora(dropout=0.05, base="nf4"), {"checkpointing": True}),
    (Lora(dropout=0.05), {"functions": "stock", "checkpointing": True}),
    (Lora(dropout=0.05, dora=True), {"checkpointing": True}),
    (Lora(dropout=0.05, dora=True), {}),
    (Lora(dora=True), {"functions": "stock", "checkpointing": True}),
    (Lora(dora=True), {"checkpointing": True}),
    (Lora(base="nf4"), {}),
    (Lora(base="nf4", double_quantisation=False), {"checkpointing": True}),
    (Lora(base="nf4", dora=True), {"checkpointing": True}),
    (Lora(base="int8"), {"checkpointing": True}),
    (Full(), {}),
    (Full(), {"accumulation": 4, "checkpointing": True}),
    (Full(), {"exact_weights": False, "checkpointing": True}),
    (Full(), {"optimizer": "adamw_8bit", "checkpointing": True}),
    (Full(), {"optimizer": "paged_adamw_8bit", "checkpointing": True}),
    (Full(), {"label_share": 0.25, "checkpointing": True, "micro_batch_tokens": 16384}),
    (LastLayers(layers=4), {}),
    (LastLayers(layers=8), {"checkpointing": True}),
    (Named(patterns=("*.mlp.*",)), {"checkpointing": True}),
    (Bottleneck(), {"checkpointing": True}),
    (Ia3(), {}),
    (Prefix(), {}),
    (PTuning(), {}),
    (PromptTuning(), {}),
)
CASES = (
    *(Case(name, adaptation, options) for name in MODELS for adaptation, options in EVERYWHERE),
    *(Case("Qwen/Qwen3-4B", adaptation, options) for adaptation, options in ON_ONE),
)
PAIRED_ON: tuple[tuple[str, int], ...] = tuple(
    (name, tokens) for name in ("Qwen/Qwen3-4B", "meta-llama/Llama-3.1-8B") for tokens in (4096, 16384)
)
"""Models, and tokens of a row: both halves of its pairs."""
PAIRED: tuple[tuple[Adaptation, Reference], ...] = (
    (Lora(), "adapter_off"),
    (Lora(base="nf4"), "adapter_off"),
    (Full(), "copy"),
)
PAIRED_ON_ONE: tuple[tuple[Adaptation, Reference, dict[str, Any]], ...] = (
    (Lora(), "precomputed", {}),
    (Lora(), "adapter_off", {"label_share": 0.25}),
    (Lora(), "adapter_off", {"label_share": 0.25, "checkpointing": True}),
    (Lora(), "adapter_off", {"functions": "stock"}),
    (Lora(), "adapter_off", {"accumulation": 4, "checkpointing": True}),
    (Lora(dora=True), "adapter_off", {"checkpointing": True}),
    (LastLayers(layers=4), "copy", {"checkpointing": True}),
    (Full(), "precomputed", {"checkpointing": True}),
    (Full(), "copy", {"accumulation": 4, "checkpointing": True}),
)
DPO_CASES = (
    *(
        Case(name, adaptation, {"micro_batch_tokens": tokens, "checkpointing": again}, reference)
        for name, tokens in PAIRED_ON
        for adaptation, reference in PAIRED
        for again in (False, True)
    ),
    *(
        Case("Qwen/Qwen3-4B", adaptation, options, reference)
        for adaptation, reference, options in PAIRED_ON_ONE
    ),
    Case("meta-llama/Llama-3.2-1B", Full(), {"checkpointing": True}, "copy"),
    Case("Qwen/Qwen3-0.6B", Full(), {}, "copy"),
)


@dataclass(frozen=True)
class Row:
    """What both said, in bytes."""

    case: Case
    closed: dict[str, int]
    dry: dict[str, int]
    seconds: float
    reserved: tuple[int, int] | None

    @property
    def error(self) -> float:
        """How far the closed form is from the dry run, as a share of it."""
        return max(self.closed.values()) / max(self.dry.values()) - 1


def main() -> None:
    """Run every case and show the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--dpo", action="store_true", help="pairs instead of documents")
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--reserved", action="store_true", help="run the whole depth and the allocator, too")
    options = parser.parse_args()
    rows: list[Row] = []
    refused: list[dict[str, str]] = []
    for case in DPO_CASES if options.dpo else CASES:
        if options.only not in case.name:
            continue
        try:
            rows.append(compared(case, reserved=options.reserved))
            print(_line(rows[-1]), flush=True)
        except Failure as reason:
            refused.append({"name": case.name, "reason": str(reason)})
            print(f"{case.name:<88}  {reason}", flush=True)
    print("\n".join(_summary(rows)))
    if options.out:
        options.out.write_text(json.dumps(_results(rows, refused), indent=1) + "\n")


def compared(case: Case, *, reserved: bool = False) -> Row:
    """The closed form and the dry run of one case."""
    plan, shape = case.plan, _shape(case.model)
    share = case.options.get(SHARE, 1.0)
    given, objective = setup(plan, shape, Share(share, plan.data.length_tokens)), tuning
    if case.reference:  # of a pair the estimate is told one half
        half = given.micro_batch_tokens // 2
        given = replace(given, objective="dpo", reference=case.reference, micro_batch_tokens=half)
        objective = dpo(case.reference)
    closed = estimate(given)
    found = dry_run(plan, config(shape), label_share=share, reserved=reserved, objective=objective)
    held = found.reserved and (found.reserved.expandable, found.reserved.segments)
    return Row(case, dict(closed.candidates), dict(found.moments), found.seconds, held)


def _shape(name: str) -> ModelShape:
    return model(name)


def _line(row: Row) -> str:
    closed, dry = (max(found.values()) / 2**30 for found in (row.closed, row.dry))
    winners = "/".join(max(found, key=lambda one: found[one]) for found in (row.closed, row.dry))
    return (
        f"{row.case.name:<88}{closed:>9.3f}{dry:>9.3f}{row.error:>+8.2%}  {winners:<20}{row.seconds:>5.1f} s"
    )


def _summary(rows: Sequence[Row]) -> Iterator[str]:
    yield f"\n{'group':<24}{'n':>4}{'median':>9}{'mean':>9}{'p95':>9}{'worst':>9}"
    groups = {"all": rows} | {
        name: [row for row in rows if method(row.case.adaptation) == name]
        for name in sorted({method(row.case.adaptation) for row in rows})
    }
    for name, some in groups.items():
        sizes = [abs(row.error) for row in some]
        if sizes:
            shown = (median(sizes), mean(sizes), _p95(sizes), max(sizes))
            yield f"{name:<24}{len(sizes):>4}" + "".join(f"{size:>9.2%}" for size in shown)


def _p95(sizes: Sequence[float]) -> float:
    return quantiles(sizes, n=20, method="inclusive")[-1] if len(sizes) > 1 else sizes[0]


def _results(rows: Sequence[Row], refused: Sequence[dict[str, str]]) -> dict[str, object]:
    sizes = [abs(row.error) for row in rows]
    packages = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
    return {
        "machine": "2 cores, no GPU",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "summary": {
            "configurations": len(rows),
            "median": round(median(sizes), 5),
            "p95": round(_p95(sizes), 5),
            "worst": round(max(sizes), 5),
            "seconds_median": round(median(row.seconds for row in rows), 2),
            "seconds_worst": round(max(row.seconds for row in rows), 2),
        },
        "rows": [
            {
                "name": row.case.name,
                "error": round(row.error, 5),
                "closed_form": row.closed,
                "dry_run": row.dry,
                "reserved": row.reserved,
                "cpu_seconds": round(row.seconds, 2),
            }
            for row in rows
        ],
        "refused": list(refused),
    }


if __name__ == "__main__":
    main()
