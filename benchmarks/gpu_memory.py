"""Measured peaks of the built-in trainer beside what the closed form and the dry run say: one command on a GPU.

Run: `python benchmarks/gpu_memory.py OUT.json [--only TEXT]` on a machine with a CUDA device; `--toy` runs small
models on the CPU, to see that everything works (there the resident set is measured, and only the closed form
predicts it).

Every configuration is a process of its own, so one that runs out of memory says so and the others go on. The model is
made from its dimensions with random weights, quantised by bitsandbytes where the method wants it; adapters, functions,
loop and optimizer are the trainer's, and so is the objective of supervised fine-tuning; that of DPO is
`preference.py`. Allocated and reserved are torch's counters over three steps; process is what the driver says is used,
less what was used before.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # as a run of the trainer does

import torch
from preference import Reference, dpo, in_pairs
from torch import nn

from advisor.catalog.models import ModelShape, model
from advisor.estimate.memory import estimate
from advisor.estimate.setup import Setup, setup
from advisor.run.dry_config import config
from recipes.plan import (
    Adaptation,
    Data,
    Full,
    LastLayers,
    Layout,
    Lora,
    Model,
    Plan,
    Schedule,
    method,
)
from trainers.adapt.adapters import Base
from trainers.batches import groups
from trainers.dryrun import dry_run
from trainers.dryrun.model import built
from trainers.dryrun.rehearsal import examples
from trainers.engine.accelerated import Accelerated
from trainers.loop import train
from trainers.memory.peak import Peak
from trainers.optim import learning_rate
from trainers.policy import DTYPES, Policy, keep_unpacked
from trainers.policy.forward import packed_nll, stock_nll
from trainers.policy.source import Source
from trainers.run.equip import ObjectiveOf, equip, tuning

NOTHING = "0" * 64
STEPS = 3
PATIENCE = 900
STEP_SEED = 0


@dataclass(frozen=True)
class Case:
    """One configuration; `head` is the loss: packed rows and label chunks ("ours"), or the model's own logits.

    With a `reference` a row's documents come in pairs, and the objective is DPO.
    """

    shape: ModelShape
    adaptation: Adaptation
    tokens: int
    length: int
    checkpointing: bool
    functions: str = "ours"
    head: str = "ours"
    reference: Reference | None = None
    device: str = "cuda"

    @property
    def name(self) -> str:
        """Everything in one line."""
        again = "checkpointing" if self.checkpointing else "kept"
        model_name = self.shape.name.split("/")[-1]
        sizes = f"{self.tokens}x{self.length}"
        how = f"dpo={self.reference}" if self.reference else f"functions={self.functions} head={self.head}"
        return f"{model_name} {method(self.adaptation)} {sizes} {again} {how}"

    @property
    def objective(self) -> ObjectiveOf:
        """What is learned."""
        return dpo(self.reference) if self.reference else tuning

    @property
    def setup(self) -> Setup:
        """What the closed form is told: of a pair one half."""
        given = setup(self.plan, self.shape, None, device=self.device)
        if self.reference is None:
            return given
        half = given.micro_batch_tokens // 2
        return replace(given, objective="dpo", reference=self.reference, micro_batch_tokens=half)

    @property
    def plan(self) -> Plan:
        """The recipe."""
        files = {"train": "t", "train_sha256": NOTHING, "held_out": "h", "held_out_sha256": NOTHING}
        return Plan(
            name="gpu",
            model=Model(id=self.shape.name, dtype="bfloat16" if self.device == "cuda" else "float32"),
            adaptation=self.adaptation,
            data=Data(**files, length_tokens=self.length),
            schedule=Schedule(
                epochs=float(STEPS),
                max_steps=STEPS,
                micro_batch_tokens=self.tokens,
                learning_rate=1e-5,
                checkpointing=self.checkpointing,
            ),
            layout=Layout(device=self.device, functions=self.functions),
        )


TOY = ModelShape(
    name="toy",
    layers=4,
    hidden=256,
    heads=8,
    kv_heads=4,
    head_width=32,
    mlp=768,
    vocabulary=8192,
    tied=False,
    block="llama",
    estimator="closed_form",
    verified=True,
    source="benchmarks/gpu_memory.py",
)
TOY_SHARE = 16
"""By how much its rows are shorter."""
MODELS = ("Qwen/Qwen3-0.6B", "meta-llama/Llama-3.2-1B", "Qwen/Qwen3-4B", "Qwen/Qwen3-8B")
FORMS: tuple[tuple[Adaptation, int, int, bool, str, str], ...] = (
    (Full(), 2048, 1024, True, "ours", "ours"),
    (Full(), 2048, 1024, True, "ours", "stock"),
    (Lora(), 4096, 2048, False, "ours", "ours"),
    (Lora(), 4096, 2048, True, "ours", "ours"),
    (Lora(), 4096, 2048, False, "stock", "ours"),
    (Lora(), 4096, 2048, True, "ours", "stock"),
    (Lora(rank=64), 16384, 16384, True, "ours", "ours"),
    (Lora(base="nf4"), 4096, 2048, True, "ours", "ours"),
    (Lora(base="nf4"), 4096, 2048, False, "ours", "ours"),
    (Lora(dora=True), 4096, 2048, True, "ours", "ours"),
    (LastLayers(layers=4), 4096, 2048, True, "ours", "ours"),
)
PAIRS: tuple[tuple[Adaptation, int, int, bool, Reference], ...] = (
    (Lora(), 4096, 1024, False, "adapter_off"),
    (Lora(), 4096, 1024, True, "adapter_off"),
    (Lora(), 4096, 1024, True, "precomputed"),
    (Lora(base="nf4"), 4096, 1024, False, "adapter_off"),
    (Lora(base="nf4"), 16384, 2048, True, "adapter_off"),
    (Lora(dora=True), 4096, 1024, True, "adapter_off"),
    (LastLayers(layers=4), 4096, 1024, True, "copy"),
    (Full(), 2048, 1024, True, "copy"),
)
"""For DPO: tokens of a row, both halves of its pairs, and of each half."""


def cases(*, toy: bool) -> Iterator[Case]:
    """All configurations: every form on every model."""
    for shape in (TOY,) if toy else tuple(model(name) for name in MODELS):
        for form in FORMS:
            yield _sized(Case(shape, *form), toy=toy)
        for *form, reference in PAIRS:
            yield _sized(Case(shape, *form, reference=reference), toy=toy)


def _sized(case: Case, *, toy: bool) -> Case:
    """The same configuration, or what is left of it on the toy's four blocks."""
    if not toy:
        return case
    last = isinstance(case.adaptation, LastLayers)
    return replace(
        case,
        adaptation=LastLayers(layers=2) if last else case.adaptation,
        tokens=case.tokens // TOY_SHARE,
        length=case.length // TOY_SHARE,
        device="cpu",
    )


def main() -> None:
    """Measure every case in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--toy", action="store_true", help="small models on the CPU")
    parser.add_argument("--only", default="", help="configurations whose name has this text")
    parser.add_argument("--first", type=int, help="only so many configurations")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    found = list(cases(toy=options.toy))
    if options.one is not None:
        print(json.dumps(_measured(found[options.one])))
        return
    rows = []
    chosen = [(number, case) for number, case in enumerate(found) if options.only in case.name]
    for number, case in chosen[: options.first]:
        rows.append({"name": case.name, **_predicted(case), **_apart(number, toy=options.toy)})
        print(_line(rows[-1]), flush=True)
    if options.out:
        options.out.write_text(json.dumps({**_machine(toy=options.toy), "rows": rows}, indent=1) + "\n")


def _apart(number: int, *, toy: bool) -> dict[str, Any]:
    """Measure one case in a new process; what went wrong is told, not raised."""
    words = [sys.executable, __file__, "--one", str(number), *(["--toy"] if toy else [])]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return {"status": "timeout"}
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    said = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
    full = "OutOfMemoryError" in done.stderr or "out of memory" in done.stderr
    return {"status": "out of memory" if full else "failed", "reason": said[0][:300]}


def _predicted(case: Case) -> dict[str, Any]:
    """What the closed form and the dry run say; a head of the model's own is known to the dry run alone."""
    closed = None
    if case.head == "ours":
        closed = estimate(case.setup)
    dry = None if case.device == "cpu" else _dry(case)
    return {
        "closed_form": closed and closed.allocated,
        "reserved_interval": closed and [round(closed.reserved.low), round(closed.reserved.high)],
        "process_interval": closed and [round(closed.process.low), round(closed.process.high)],
        "winner": closed and closed.winner.name,
        "dry_run": dry,
    }


def _dry(case: Case) -> int:
    stock = case.head == "stock"
    return dry_run(case.plan, config(case.shape), stock_head=stock, objective=case.objective).allocated


def _measured(case: Case) -> dict[str, Any]:
    """Train three steps on the device and read the counters."""
    plan = case.plan
    engine = Accelerated(plan.layout)
    before = _used(engine.device)
    peak = Peak(engine.device)
    made = _random_weights(case, engine.device)
    nll = packed_nll if case.head == "ours" else stock_nll
    policy = Policy(made, None, engine.device, nll, Source(Path(), None))
    equipped = equip(plan, Path(), policy, Base(plan.model.id, ""), engine, case.objective)
    steps = groups(examples(plan, 1.0, STEPS), plan.schedule, engine.device)
    if case.reference:
        steps = map(in_pairs, steps)
    if engine.device.type == "cuda":
        torch.cuda.empty_cache()  # what loading left behind is not the training's
    peak.start()
    began, seconds = time.monotonic(), []
    with equipped.policy.as_trained():
        for _ in train(
            equipped.learner,
            steps,
            equipped.optimizer,
            engine,
            learning_rate=learning_rate(plan.schedule, STEPS),
            clip_norm=plan.schedule.clip_norm,
            seed=STEP_SEED,
        ):
            seconds.append(time.monotonic() - began)
            began = time.monotonic()
    on_gpu = engine.device.type == "cuda"
    return {
        "status": "ok",
        "allocated": peak.read(),
        "quantity": peak.quantity,
        "reserved": torch.cuda.max_memory_reserved() if on_gpu else None,
        "process": _used(engine.device) - before if on_gpu else None,
        "step_seconds": round(median(seconds[1:]), 4),
    }


def _random_weights(case: Case, device: torch.device) -> nn.Module:
    """The model with random weights on the device; linear layers quantised as loading quantises them."""
    dtype = DTYPES[case.plan.model.dtype]
    dense = case.plan.model_copy(update={"adaptation": Full()})
    made = built(config(case.shape), dense).to_empty(device=device)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in made.parameters():
            weight.fill_(1.0) if weight.ndim == 1 else weight.normal_(0, 0.02)
        for name, module in [*made.named_modules()]:
            if any(key.endswith("inv_freq") for key in module._buffers):  # computed, not loaded
                made.set_submodule(name, type(module)(made.config).to(device))
    return _quantised(made, case, dtype, device)


def _quantised(made: nn.Module, case: Case, dtype: torch.dtype, device: torch.device) -> nn.Module:
    if not (isinstance(case.adaptation, Lora) and case.adaptation.base == "nf4"):
        return made
    bnb = import_module("bitsandbytes")
    for name, layer in [*made.named_modules()]:
        if type(layer).__name__ == "Linear" and name != "lm_head":
            sizes = (layer.in_features, layer.out_features)
            new = bnb.nn.Linear4bit(*sizes, layer.bias is not None, dtype, True, "nf4", device="meta")
            new.weight = bnb.nn.Params4bit(
                layer.weight.data, False, compress_statistics=True, quant_type="nf4"
            )
            new.bias = layer.bias
            made.set_submodule(name, new.to(device))
            del layer
    made.is_loaded_in_4bit = made.is_quantized = True
    keep_unpacked(made)
    return made


def _used(device: torch.device) -> int:
    """Bytes of the device that the driver says are in use, by anybody."""
    if device.type != "cuda":
        return 0
    free, whole = torch.cuda.mem_get_info(device)
    return int(whole - free)


def _line(row: dict[str, Any]) -> str:
    def gib(size: int | None) -> str:
        return "-" if size is None else f"{size / 2**30:.2f}"

    numbers = [gib(row.get(key)) for key in ("allocated", "closed_form", "dry_run", "reserved", "process")]
    return f"{row['name']:<78}{row['status']:<14}" + "".join(f"{number:>9}" for number in numbers)


def _machine(*, toy: bool) -> dict[str, Any]:
    packages = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
    return {
        "device": "CPU, toy size" if toy else torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "allocator": os.environ["PYTORCH_ALLOC_CONF"],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


if __name__ == "__main__":
    main()
