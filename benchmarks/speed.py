"""Real tokens per CPU-second of the built-in trainer beside TRL, Hugging Face's Trainer and a plain loop.

Run: `pip install trl==1.16.0`, then `python benchmarks/speed.py [--rounds 3] [--case lora]`. Everything happens in
one process, on one thread, each trainer by turns, and CPU time is counted, so a busy machine changes little; the
medians of ratios within a round are what is reported. Prints a table, and writes `results/speed.json`.

Every trainer gets the same weights, the same documents and the same optimizer, and each of its steps learns from all
documents: then all of them must tell the same losses, however they lay the documents into batches. A trainer whose
losses are elsewhere has no valid time.
"""

import argparse
import copy
import json
import logging
import os
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import torch
import torch.nn.functional as F
from datasets import Dataset, disable_progress_bars
from measured import Live, machine, versions
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from transformers import (
    BitsAndBytesConfig,
    DataCollatorForSeq2Seq,
    DataCollatorWithFlattening,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.utils import logging as transformers_logging

from recipes.plan import Layout, Schedule
from recipes.rows import Row, Source, Turn
from trainers import batches
from trainers.adapt import functions
from trainers.data import Example
from trainers.engine.accelerated import Accelerated
from trainers.loop import Learner, Loss, train
from trainers.optim import adamw
from trainers.policy import causal
from trainers.policy.forward import packed_nll, packed_rows

RESULT = Path(__file__).parent / "results" / "speed.json"
CLOCK: Callable[[], float] = time.process_time
"""What seconds are; the benchmark of a GPU takes the wall clock."""
DEVICE = "cpu"
PAD = 0
RATE = 1e-3
CLIP = 1.0
TRL = "1.16.0"


@dataclass(frozen=True)
class Case:
    """What is trained: the method, the model's size, and how many documents of up to how many tokens."""

    name: str
    method: str
    hidden: int = 384
    layers: int = 6
    vocabulary: int = 8192
    documents: int = 24
    longest: int = 512
    row_tokens: int = 1024
    batch: int = 8
    steps: int = 3


CASES = (
    Case("lora", "lora"),
    Case("qlora", "qlora"),
    Case("full", "full"),
    Case("host", "lora", hidden=32, layers=32, vocabulary=128, documents=1, longest=24, row_tokens=24, batch=1, steps=12),
)  # fmt: skip


@dataclass(frozen=True)
class Told:
    """One optimizer step of a trainer: its CPU-seconds, and the mean loss of the trained tokens."""

    seconds: float
    loss: float


def documents(case: Case) -> list[Example]:
    """Prompts and answers of uneven length: short ones are many, as in instruction data; half is trained."""
    chance = random.Random(0)
    row = Row(
        kind="text",
        messages=(Turn(role="assistant", content="-"),),
        source=Source(file="-", line=1, format="text", group="1"),
    )
    made = []
    for _ in range(case.documents):
        length = min(
            case.longest, max(case.longest // 16, round(chance.lognormvariate(0, 0.8) * case.longest / 4))
        )
        start, step = chance.randrange(case.vocabulary), chance.randrange(1, 5)
        ids = tuple(1 + (start + step * i) % (case.vocabulary - 1) for i in range(length))
        made.append(Example(ids, tuple(i >= length // 2 for i in range(length)), row))
    return made


def model(case: Case) -> nn.Module:
    """A Llama with random weights, frozen under LoRA unless everything is trained."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=case.vocabulary,
        hidden_size=case.hidden,
        intermediate_size=case.hidden * 8 // 3 // 32 * 32 or 64,
        num_hidden_layers=case.layers,
        num_attention_heads=max(1, case.hidden // 64),
        num_key_value_heads=max(1, case.hidden // 128),
        max_position_embeddings=4096,
        pad_token_id=PAD,
        use_cache=False,
    )
    found = LlamaForCausalLM(config)
    if case.method == "full":
        return found
    if case.method == "qlora":
        found = _in_four_bits(found)
    torch.manual_seed(1)
    return get_peft_model(
        found, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    )


def _in_four_bits(found: nn.Module) -> nn.Module:
    with tempfile.TemporaryDirectory() as home:
        found.save_pretrained(home)
        four = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32, bnb_4bit_use_double_quant=True
        )  # fmt: skip
        loaded = LlamaForCausalLM.from_pretrained(
            home, quantization_config=four, dtype=torch.float32, device_map={"": "cpu"}
        )
    for module in loaded.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return loaded


# --- the trainers ---


def ours(net: nn.Module, some: Sequence[Example], case: Case) -> Iterator[Told]:
    """The loop of `trainers`, with all that a run has."""
    functions.install(net)
    schedule = Schedule(
        epochs=float(case.steps), micro_batch_tokens=case.row_tokens, accumulation=1000,
        learning_rate=RATE, decay="constant", weight_decay=0.0, clip_norm=CLIP,
    )  # fmt: skip
    engine = Accelerated(Layout(device="cpu", threads=1))
    inner = causal(net)
    learner, optimizer = engine.prepare(
        Learner(net, lambda batch: Loss(packed_nll(inner, batch), batch.count)), adamw(net, schedule)
    )
    groups = batches.groups(some, schedule, engine.device)
    began = time.process_time()
    with packed_rows(inner):
        for steps in train(learner, groups, optimizer, engine, learning_rate=lambda _: RATE, clip_norm=CLIP):
            now = time.process_time()
            yield Told(now - began, steps[-1].loss)
            began = now


def plain(net: nn.Module, some: Sequence[Example], case: Case) -> Iterator[Told]:
    """Twenty lines of PyTorch by somebody who sorts by length: padded batches, all logits."""
    ordered = sorted(some, key=lambda one: len(one.ids))
    groups = [ordered[i : i + case.batch] for i in range(0, len(ordered), case.batch)]
    weights = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.0, fused=True)
    count = sum(sum(one.trained) for one in some)
    net.train()
    began = time.process_time()
    for _ in range(case.steps):
        total = 0.0
        for group in groups:
            longest = max(len(one.ids) for one in group)
            ids = torch.tensor([[*one.ids, *[PAD] * (longest - len(one.ids))] for one in group])
            mask = torch.tensor([[1] * len(one.ids) + [0] * (longest - len(one.ids)) for one in group])
            labels = torch.tensor([[*_labels(one), *[-100] * (longest - len(one.ids))] for one in group])
            logits = net(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
            loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum") / count
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        now = time.process_time()
        yield Told(now - began, total)
        began = now


class Clock(TrainerCallback):
    """CPU time at the end of each step, and the loss that was logged for it."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Start."""
        self.ends.append(CLOCK())

    def on_step_end(self, *_: object, **__: object) -> None:
        """A step is done; what it logs belongs to the next one, as everywhere."""
        self.ends.append(CLOCK())

    def on_log(
        self, args: object, state: object, control: object, logs: dict[str, float], **_: object
    ) -> None:
        """Keep the loss."""
        if "loss" in logs:
            self.losses.append(logs["loss"])

    def told(self) -> Iterator[Told]:
        """Steps."""
        for (before, after), loss in zip(
            zip(self.ends, self.ends[1:], strict=False), self.losses, strict=True
        ):
            yield Told(after - before, loss)


def _settings(case: Case, home: str, **changes: object) -> dict[str, Any]:
    return {
        "output_dir": home, "max_steps": case.steps, "learning_rate": RATE, "lr_scheduler_type": "constant",
        "weight_decay": 0.0, "max_grad_norm": CLIP, "optim": "adamw_torch_fused", "use_cpu": DEVICE == "cpu",
        "logging_steps": 1, "save_strategy": "no", "report_to": [], "disable_tqdm": True,
        "per_device_train_batch_size": case.batch, "gradient_accumulation_steps": -(-case.documents // case.batch),
        "dataloader_pin_memory": False, "seed": 0, **changes,
    }  # fmt: skip


def _hf(net: nn.Module, some: Sequence[Example], case: Case, collator: object) -> Iterator[Told]:
    rows = [{"input_ids": list(one.ids), "labels": _labels(one)} for one in some]
    clock = Clock()
    with tempfile.TemporaryDirectory() as home:
        trainer = Trainer(
            net,
            TrainingArguments(**_settings(case, home)),
            train_dataset=Dataset.from_list(rows),
            data_collator=collator,
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    yield from clock.told()


def hf_padded(net: nn.Module, some: Sequence[Example], case: Case) -> Iterator[Told]:
    """Hugging Face's Trainer as most scripts call it."""
    yield from _hf(net, some, case, DataCollatorForSeq2Seq(tokenizer(case), label_pad_token_id=-100))


def hf_flattened(net: nn.Module, some: Sequence[Example], case: Case) -> Iterator[Told]:
    """The same without padding: documents of a batch in one row, kept apart by their positions."""
    yield from _hf(net, some, case, DataCollatorWithFlattening())


def _trl(net: nn.Module, some: Sequence[Example], case: Case, **changes: object) -> Iterator[Told]:
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415  (only where it is installed)

    rows = [{"input_ids": list(one.ids), "labels": _labels(one)} for one in some]
    clock = Clock()
    with tempfile.TemporaryDirectory() as home:
        settings = _settings(case, home, max_length=case.row_tokens, bf16=False, **changes)
        checkpointing = next(
            n
            for n in ("activation_checkpointing", "gradient_checkpointing")
            if n in SFTConfig.__dataclass_fields__
        )
        trainer = SFTTrainer(
            net,
            SFTConfig(**settings, **{checkpointing: False}),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer(case),
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    yield from clock.told()


def trl_padded(net: nn.Module, some: Sequence[Example], case: Case) -> Iterator[Told]:
    """TRL's SFTTrainer without its checkpointing."""
    yield from _trl(net, some, case)


def trl_packed(net: nn.Module, some: Sequence[Example], case: Case) -> Iterator[Told]:
    """The same with packing, one row a micro-batch; all rows of an epoch are one step."""
    accumulation = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1000}
    yield from _trl(net, some, case, packing=True, **accumulation)


Trained = Callable[[nn.Module, Sequence[Example], Case], Iterator[Told]]
TRAINERS: dict[str, Trained] = {
    "ours": ours,
    "plain, sorted": plain,
    "HF padded": hf_padded,
    "HF flattened": hf_flattened,
    "TRL padded": trl_padded,
    "TRL packed": trl_packed,
}


def _labels(one: Example) -> list[int]:
    return [token if trained else -100 for token, trained in zip(one.ids, one.trained, strict=True)]


def tokenizer(case: Case) -> PreTrainedTokenizerFast:
    """Trainers want one; nothing is tokenised here."""
    words = {f"w{number}": number for number in range(case.vocabulary)}
    made = Tokenizer(WordLevel(words, unk_token="w1"))
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="w0", eos_token="w2", unk_token="w1")


# --- the measurement ---


def measured(case: Case, rounds: int, names: Sequence[str]) -> dict[str, Any]:
    """Let the trainers train by turns; medians over rounds, and losses held against ours."""
    some, start = documents(case), model(case)
    tokens = sum(len(one.ids) for one in some)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, list[float]] = {}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            told = list(TRAINERS[name](copy.deepcopy(start), some, case))
            seconds[name].append(median(step.seconds for step in told[1:]))  # the first one warms up
            losses[name] = [step.loss for step in told]
    peaks = {name: _peak(TRAINERS[name], start, some, case) for name in names}
    rows = {}
    for name in names:
        ratios = [theirs / mine for theirs, mine in zip(seconds[name], seconds["ours"], strict=True)]
        apart = max(abs(a - b) for a, b in zip(losses[name], losses["ours"], strict=True))
        rows[name] = {
            "tokens_per_cpu_second": round(tokens / median(seconds[name]), 1),
            "cpu_seconds_per_step": round(median(seconds[name]), 5),
            "ours_is_faster_by": round(median(ratios), 3),
            "spread": [round(min(ratios), 3), round(max(ratios), 3)],
            "peak_bytes": peaks[name],
            "losses": [round(loss, 5) for loss in losses[name]],
            "loss_apart": round(apart, 6),
            "valid": apart <= 1e-3,
        }
    return {"case": asdict(case), "tokens": tokens, "rounds": rounds, "trainers": rows}


def _peak(trainer: Trained, start: nn.Module, some: Sequence[Example], case: Case) -> int:
    """Bytes of tensors alive at the peak of two steps, counted from what was there before."""
    net = copy.deepcopy(start)
    with Live() as live:
        list(trainer(net, some, replace(case, steps=2)))
    return live.peak


def table(found: dict[str, Any]) -> Iterator[str]:
    """Lines for people."""
    case = found["case"]
    yield f"\n{case['name']}: hidden {case['hidden']} x {case['layers']}, {case['documents']} documents, {found['tokens']} tokens a step"
    yield f"{'':14} {'tokens/CPU-s':>12} {'ms a step':>10} {'ours faster':>12} {'peak MiB':>9} {'loss apart':>11}"
    for name, row in found["trainers"].items():
        yield (
            f"{name:14} {row['tokens_per_cpu_second']:12,.0f} {row['cpu_seconds_per_step'] * 1e3:10,.1f}"
            f" {row['ours_is_faster_by']:11.2f}x {row['peak_bytes'] / 2**20:9.1f} {row['loss_apart']:11.1e}"
            f"{'' if row['valid'] else '  void'}"
        )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", choices=[case.name for case in CASES], action="append")
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bars()
    transformers_logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    installed = versions("torch", "transformers", "peft", "accelerate", "bitsandbytes", "trl")
    names = list(TRAINERS)
    if installed["trl"] is None:
        print(f"without TRL: pip install trl=={TRL}")
        names = [name for name in names if not name.startswith("TRL")]
    about = {"versions": installed, "machine": machine()}
    for case in CASES:
        if asked.case and case.name not in asked.case:
            continue
        found = {**measured(case, asked.rounds, names), **about}
        print("\n".join(table(found)), flush=True)
        _keep(asked.out, found)


def _keep(path: Path, found: dict[str, Any]) -> None:
    """Write a case as soon as it is measured; those of earlier runs stay, each with its own versions."""
    before = json.loads(path.read_text())["cases"] if path.is_file() else []
    others = [one for one in before if one["case"]["name"] != found["case"]["name"]]
    path.write_text(json.dumps({"cases": [*others, found]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
