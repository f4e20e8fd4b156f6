"""One command for a GPU: open questions first, then tokens a second, MFU and peaks of ours beside TRL and HF.

Run: `python benchmarks/gpu_speed.py [--cap-gib 80] [--peak-tflops 989]`; `--toy` runs the same code on small shapes,
on a CPU too. Weights are random and made in place, so nothing is downloaded. Each case is a process of its own: what
ends one of them is written down, and the others go on. Prints lines, and writes `results/gpu_speed.json`.

MFU counts 4 N FLOP a token for adapters and 6 N for all weights, N without embeddings and head, and nothing for
recomputation. At a memory cap: a case that needs more than the cap fails, and says so. Beside the measured peak of
ours stand the closed form's and the dry run's, for the same plan; how many tokens a peer has read is counted where
its model is called, padding not.

Peers beyond TRL and HF's Trainer take part where they are installed: Liger's kernels in HF's Trainer, and Unsloth, for
which `--python "Unsloth=/its/own/bin/python"` names an environment of its own (it needs this package as well). They
were never run here. Not asked: DPO (the trainer has no command for it), CUDA graphs (not offered), several GPUs.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from measured import machine, versions
from torch import Tensor, nn

RESULT = Path(__file__).parent / "results" / "gpu_speed.json"
GIB = 2**30
WARM_UP, STEPS = 5, 20


@dataclass(frozen=True)
class Run:
    """One case of the race: who trains what."""

    trainer: str
    size: str
    method: str
    row_tokens: int = 8192
    documents_tokens: int = 1024
    steps: int = STEPS

    @property
    def name(self) -> str:
        """Everything in one line."""
        return f"{self.size} {self.method} {self.row_tokens} {self.trainer}"


SIZES: dict[str, dict[str, int]] = {
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128256},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128256},
    "toy": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 256},
}  # fmt: skip
TRAINERS = ("ours", "HF flattened", "TRL packed", "HF + Liger", "Unsloth")
NEEDS = {"TRL packed": "trl", "HF + Liger": "liger_kernel", "Unsloth": "unsloth"}
WANTED = (("1b", "lora"), ("8b", "lora"), ("1b", "full"), ("8b", "qlora"))
PEAKS = tuple(
    ("1b", method, tokens) for method in ("lora", "qlora", "dora", "full") for tokens in (4096, 16384)
)
"""Ours alone, for three steps: what was predicted beside what was allocated, at two numbers of tokens."""
NOT_ASKED = {"1b dpo": "the trainer has no command for it yet"}


# --- the questions ---


def varlen(device: torch.device) -> str:
    """Grouped heads, and a document without tokens, against attention document by document."""
    from trainers.policy import attention  # noqa: PLC0415  (each case imports what it asks about)

    ends = torch.tensor([0, 5, 5, 12], dtype=torch.int32, device=device)
    q, k, v = (torch.randn(1, heads, 12, 64, device=device, dtype=torch.bfloat16) for heads in (4, 2, 2))
    lengths = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": 7, "max_length_k": 7}
    packed = attention.packed(nn.Module(), q, k, v, None, spans=((0, 5), (5, 12)), **lengths)[0]
    alone = [
        F.scaled_dot_product_attention(
            *(x[:, :, a:b].float() for x in (q, k, v)), is_causal=True, enable_gqa=True
        )
        for a, b in ((0, 5), (5, 12))
    ]
    return _close(packed, torch.cat(alone, 2).transpose(1, 2), 2e-2)


def prefix(device: torch.device) -> str:
    """More keys than queries: four learned ones before each document, causal from the lower right corner."""
    from trainers.policy import attention  # noqa: PLC0415

    ends, behind = ([0, 5, 5, 12], [0, 9, 13, 24])
    index = [*range(4), *range(4, 9), *range(4), *range(4), *range(9, 16)]
    q, k, v = (torch.randn(1, heads, 12, 64, device=device, dtype=torch.bfloat16) for heads in (4, 2, 2))
    learned = [torch.randn(1, 2, 4, 64, device=device, dtype=torch.bfloat16) for _ in range(2)]
    layer = nn.Module()
    layer.layer_idx = 0
    packed = attention.packed(
        layer, q, k, v, None, spans=((0, 5), (5, 12)), max_length_q=7, max_length_k=11, prefix=[learned],
        cu_seq_lens_q=torch.tensor(ends, dtype=torch.int32, device=device),
        cu_seq_lens_k=torch.tensor(behind, dtype=torch.int32, device=device),
        key_index=torch.tensor(index, device=device),
    )[0]  # fmt: skip
    alone = []
    for a, b in ((0, 5), (5, 12)):
        keys, values = (torch.cat([x, y[:, :, a:b]], 2).float() for x, y in zip(learned, (k, v), strict=True))
        seen = torch.ones(b - a, b - a + 4, dtype=torch.bool, device=device).tril(4)
        alone.append(
            F.scaled_dot_product_attention(q[:, :, a:b].float(), keys, values, seen, enable_gqa=True)
        )
    return _close(packed, torch.cat(alone, 2).transpose(1, 2), 2e-2)


def kernel_scratch(device: torch.device) -> str:
    """What the kernel's backward takes for itself, beside the term that predicts it."""
    from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415

    from trainers.memory.scratch import SCRATCH  # noqa: PLC0415
    from trainers.policy.attention import _options  # noqa: PLC0415

    if device.type != "cuda":
        raise Unasked("needs a CUDA device")
    ends = torch.arange(0, 8193, 1024, dtype=torch.int32, device=device)
    q, k, v = (
        torch.randn(8192, heads, 128, device=device, dtype=torch.bfloat16, requires_grad=True)
        for heads in (32, 8, 8)
    )
    out = varlen_attn(q, k, v, ends, ends, 1024, 1024, **_options(None))
    up = torch.randn_like(out)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    given = torch.autograd.grad(out, (q, k, v), up)
    found = torch.cuda.max_memory_allocated(device) - before - sum(one.nbytes for one in given)
    term = SCRATCH["torch_attn::_varlen_attn_backward"]
    predicted = sum(term(up, q, k, v, out, None, ends))
    return f"{found / 2**20:.1f} MiB, predicted {predicted / 2**20:.1f}"


def same_bits(device: torch.device) -> str:
    """Gradients of two passes in deterministic mode."""
    from recipes.plan import Layout  # noqa: PLC0415
    from trainers.engine import determinism  # noqa: PLC0415

    determinism.settle(Layout(deterministic=True))
    try:
        one, two = (_gradients(device) for _ in range(2))
    finally:
        determinism.settle(Layout())
    if not torch.equal(one, two):
        raise AssertionError("other bits")
    return f"{one.numel()} gradients, the same bits"


def _gradients(device: torch.device) -> Tensor:
    """All gradients of one packed row."""
    from trainers import batches  # noqa: PLC0415
    from trainers.adapt import functions  # noqa: PLC0415
    from trainers.policy import causal  # noqa: PLC0415
    from trainers.policy.forward import packed_nll, packed_rows  # noqa: PLC0415

    run = Run("ours", "toy", "lora", 256, 64, 1)
    model = _model(run, device)
    functions.install(model)
    inner = causal(model)
    with packed_rows(inner):
        packed_nll(inner, batches.flatten(_documents(run)[:4], device)).backward()
    return torch.cat([p.grad.flatten().float() for p in model.parameters() if p.grad is not None])


def compiled(device: torch.device) -> str:
    """Compiled blocks beside eager ones on the same row: seconds to compile, and milliseconds a step."""
    from trainers.policy import causal, gears  # noqa: PLC0415

    if device.type != "cuda":
        raise Unasked("needs a CUDA device")
    run = Run("ours", "1b", "lora", 8192, 1024, 12)
    found = []
    for gear in ("eager", "compiled"):
        net = _model(run, device)
        if gear == "compiled":
            gears.compile_blocks(causal(net))
        marks = [_now(device)]

        def look(_: int, marks: list[float] = marks) -> bool:
            marks.append(_now(device))
            return True

        for _ in _ours(net, run, device, look):
            pass
        taken = [b - a for a, b in pairwise(marks)]
        found.append(f"{gear} {median(taken[4:]) * 1e3:.1f} ms a step, the first {taken[0]:.1f} s")
    return ", ".join(found)


def our_functions(device: torch.device) -> str:
    """Gradients through ours against the libraries', bf16."""
    import copy  # noqa: PLC0415

    from trainers.adapt import functions  # noqa: PLC0415

    stock = _model(Run("", "toy", "lora"), device)
    for name, weight in stock.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.05)
    mine = copy.deepcopy(stock)
    functions.install(mine)
    ids = torch.randint(1, 200, (1, 32), device=device)
    for model in (stock, mine):
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    pairs = zip(mine.parameters(), stock.parameters(), strict=True)
    found = [(a.grad, b.grad) for a, b in pairs if b.grad is not None]
    return _close(*(torch.cat([one[i].flatten() for one in found]) for i in (0, 1)), 5e-2)


def no_waiting(device: torch.device) -> str:
    """Steps between two looks while torch refuses every wait for the device."""
    if device.type != "cuda":
        raise Unasked("needs a CUDA device")
    net, told = _model(Run("", "toy", "lora"), device), []

    def look(step: int) -> bool:
        torch.cuda.set_sync_debug_mode("default" if step == 6 else "error")  # from the second step on
        return step == 6

    for steps in _ours(net, Run("ours", "toy", "lora", 512, 64, 6), device, look):
        told += steps
    return f"{len(told)} steps"


def found_inf(device: torch.device) -> str:
    """A step that is not a number leaves weights, moments and the step counter as they were."""
    weight = nn.Parameter(torch.ones(8, device=device))
    optimizer = torch.optim.AdamW([weight], fused=True)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    before = [weight.detach().clone(), *(x.clone() for x in optimizer.state[weight].values())]
    weight.grad.fill_(float("nan"))
    optimizer.grad_scale, optimizer.found_inf = None, torch.ones((), device=device)
    optimizer.step()
    after = [weight.detach(), *optimizer.state[weight].values()]
    if not all(torch.equal(a, b) for a, b in zip(after, before, strict=True)):
        raise AssertionError("something changed")
    return "nothing changed"


def eight_bits_held(device: torch.device) -> str:
    """A step that is not a number leaves weights and 8-bit moments as they were; here the host has to look."""
    from recipes.plan import Schedule  # noqa: PLC0415
    from trainers.errors import NotFinite  # noqa: PLC0415
    from trainers.optim import adamw  # noqa: PLC0415

    net = _model(Run("", "toy", "full"), device)
    schedule = Schedule(
        epochs=1.0, micro_batch_tokens=256, learning_rate=1e-3, optimizer="adamw_8bit", max_steps=2
    )
    optimizer = adamw(net, schedule)
    run = Run("ours", "toy", "full", 256, 64, 2)
    kept: list[Tensor] = []

    def look(step: int) -> bool:
        if step == 1:
            kept.extend(_all_of(net, optimizer))
            with torch.no_grad():  # the next forward is not a number
                next(net.parameters()).data[1:].mul_(float("nan"))
            kept[0] = next(net.parameters()).detach().clone()
        return True

    try:
        for _ in _trained(net, optimizer, run, device, look):
            pass
    except NotFinite:
        after = _all_of(net, optimizer)
        if all(torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0)) for a, b in zip(after, kept, strict=True)):
            return f"{len(after)} tensors as they were"
        raise AssertionError("something changed") from None
    raise AssertionError("nobody saw it")


def _all_of(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Copies of weights and of all that the optimizer keeps."""
    inner: Any = getattr(optimizer, "optimizer", optimizer)
    states = (
        value for state in inner.state.values() for value in state.values() if isinstance(value, Tensor)
    )
    return [x.detach().clone() for x in (*net.parameters(), *states)]


def norms(device: torch.device) -> str:
    """Our norm beside torch's fused one and Liger's: microseconds forward and backward on 8,192 x 4,096 bf16."""
    from trainers.adapt.blocks import SCALES, _RmsNorm  # noqa: PLC0415

    rows, width = (8192, 4096) if device.type == "cuda" else (64, 64)
    x = torch.randn(rows, width, device=device, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.ones(width, device=device, dtype=torch.bfloat16)
    ways: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: _RmsNorm.apply(x, weight, 1e-6, SCALES[0]),
        "F.rms_norm": lambda: F.rms_norm(x, (width,), weight, 1e-6),
    }
    if device.type == "cuda" and find_spec("liger_kernel"):
        theirs = import_module("liger_kernel.ops.rms_norm").LigerRMSNormFunction
        ways["Liger"] = lambda: theirs.apply(x, weight, 1e-6)
    return ", ".join(f"{name} {_microseconds(way, device):.0f} us" for name, way in ways.items())


def day_matmul(device: torch.device) -> str:
    """What a large product reaches today: the roof that MFU is held against besides the data sheet's."""
    size = 8192 if device.type == "cuda" else 128
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = _microseconds(lambda: a @ b, device, backward=False) / 1e6
    return f"{2 * size**3 / seconds / 1e12:.1f} TFLOP/s"


QUESTIONS: dict[str, Callable[[torch.device], str]] = {
    "varlen against documents": varlen,
    "more keys than queries": prefix,
    "what the kernel takes for itself": kernel_scratch,
    "our functions against the libraries": our_functions,
    "no waiting inside a step": no_waiting,
    "found_inf holds a step": found_inf,
    "8-bit moments hold a step": eight_bits_held,
    "the same bits twice": same_bits,
    "compiled blocks": compiled,
    "norms": norms,
    "matmul of the day": day_matmul,
}


class Unasked(Exception):
    """A question that has no answer here."""


def _close(found: Tensor, wanted: Tensor, limit: float) -> str:
    error = float((found.float() - wanted.float()).norm() / wanted.float().norm())
    if not error <= limit:
        raise AssertionError(f"relative error {error:.2g} > {limit:g}")
    return f"relative error {error:.1e}"


def _microseconds(way: Callable[[], Tensor], device: torch.device, *, backward: bool = True) -> float:
    taken = []
    for _ in range(13):
        began = _now(device)
        y = way()
        if backward:
            y.backward(torch.ones_like(y))
        taken.append(_now(device) - began)
    return median(taken[3:]) * 1e6


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


# --- the race ---


def _model(run: Run, device: torch.device) -> nn.Module:
    """Random weights in bf16, made on the device; NF4 for QLoRA, layer by layer."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    torch.manual_seed(0)
    config = LlamaConfig(**SIZES[run.size], max_position_embeddings=131072, use_cache=False, pad_token_id=0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    if run.method == "full":
        return model
    if run.method == "qlora":
        _four_bits(model, device)
    targets = LoraConfig(
        r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM", use_dora=run.method == "dora"
    )
    return get_peft_model(model, targets)


def _four_bits(model: nn.Module, device: torch.device) -> None:
    import bitsandbytes as bnb  # noqa: PLC0415

    for layer in model.model.layers:
        for parent in (layer.self_attn, layer.mlp):
            for name, linear in list(parent.named_children()):
                if isinstance(linear, nn.Linear):
                    four = bnb.nn.Linear4bit(
                        linear.in_features, linear.out_features, bias=False,
                        compute_dtype=torch.bfloat16, quant_type="nf4", compress_statistics=True,
                    )  # fmt: skip
                    four.weight = bnb.nn.Params4bit(
                        linear.weight.data.cpu(), requires_grad=False, quant_type="nf4", compress_statistics=True, module=four
                    )  # fmt: skip
                    setattr(parent, name, four.to(device))
    model.is_loaded_in_4bit = model.is_quantized = True


def _documents(run: Run) -> list[Any]:
    from speed import Case, documents  # noqa: PLC0415

    count = run.steps * run.row_tokens // run.documents_tokens
    case = Case("-", run.method, vocabulary=SIZES[run.size]["vocab_size"], longest=run.documents_tokens)
    made = documents(replace(case, documents=8 * count))
    total, kept = 0, []
    for one in made:  # as many as fill the rows of all steps
        total += len(one.ids)
        kept.append(one)
        if total >= (run.steps + 1) * run.row_tokens:
            break
    return kept


def _ours(net: nn.Module, run: Run, device: torch.device, look: Callable[[int], bool]) -> Any:  # noqa: ANN401
    from trainers.adapt import functions  # noqa: PLC0415
    from trainers.optim import adamw  # noqa: PLC0415

    functions.install(net)
    yield from _trained(net, adamw(net, _schedule(run)), run, device, look)


def _schedule(run: Run) -> Any:  # noqa: ANN401
    from recipes.plan import Schedule  # noqa: PLC0415

    return Schedule(epochs=100.0, max_steps=run.steps, micro_batch_tokens=run.row_tokens, learning_rate=1e-4)


def _trained(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Run,
    device: torch.device,
    look: Callable[[int], bool],
) -> Any:  # noqa: ANN401
    from recipes.plan import Layout  # noqa: PLC0415
    from trainers import batches  # noqa: PLC0415
    from trainers.engine.accelerated import Accelerated  # noqa: PLC0415
    from trainers.loop import Learner, Loss, train  # noqa: PLC0415
    from trainers.policy import causal  # noqa: PLC0415
    from trainers.policy.forward import packed_nll, packed_rows  # noqa: PLC0415

    engine, inner = Accelerated(Layout(device=device.type, threads=None)), causal(net)
    learner, optimizer = engine.prepare(
        Learner(net, lambda batch: Loss(packed_nll(inner, batch), batch.count)), optimizer
    )
    groups = batches.groups(_documents(run), _schedule(run), device)
    with packed_rows(inner):
        yield from train(
            learner, groups, optimizer, engine, learning_rate=lambda _: 1e-4, clip_norm=1.0, look=look
        )


def race(run: Run, device: torch.device, peak_tflops: float) -> dict[str, Any]:
    """Train some steps, and tell speed and memory."""
    net = _unsloth(run) if run.trainer == "Unsloth" else _model(run, device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()  # what loading took is not the training's
    weights = sum(p.numel() if not hasattr(p, "quant_state") else 2 * p.numel() for p in net.parameters())
    vocabulary = 2 * SIZES[run.size]["vocab_size"] * SIZES[run.size]["hidden_size"]
    warm = min(WARM_UP, run.steps // 2)
    if run.trainer == "ours":
        marks = {}

        def look(step: int) -> bool:
            if step in {warm, run.steps}:
                marks[step] = _now(device)
            return step in {warm, run.steps}

        told = [step for steps in _ours(net, run, device, look) for step in steps]
        tokens = sum(step.tokens for step in told[warm:])
        seconds, losses = marks[run.steps] - marks[warm], [step.loss for step in told]
    else:
        seconds, tokens, losses = _peer(net, run, device, warm)
    flop = (6 if run.method == "full" else 4) * (weights - vocabulary)
    found = {
        "tokens_per_second": round(tokens / seconds, 1),
        "mfu": round(flop * tokens / seconds / peak_tflops / 1e12, 4),
        "losses": [round(loss, 4) for loss in (losses[0], losses[-1])],
    }
    if device.type == "cuda":
        found["peak_allocated_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 3)
        found["peak_reserved_gib"] = round(torch.cuda.max_memory_reserved() / GIB, 3)
    return found


class Tokens:
    """Counts what a model is given, at each of its calls and without waiting for the device; padding is not counted."""

    def __init__(self, net: nn.Module) -> None:
        self._seen: list[Tensor | int] = []
        net.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = named["input_ids"] if "input_ids" in named else given[0]
        mask = named.get("attention_mask")
        self._seen.append(ids.numel() if mask is None or mask.shape != ids.shape else mask.sum())

    @property
    def calls(self) -> int:
        """How often the model was called so far."""
        return len(self._seen)

    def between(self, start: int, stop: int) -> int:
        """Tokens of the calls from `start` to before `stop`."""
        return sum(int(one) for one in self._seen[start:stop])


def _peer(net: nn.Module, run: Run, device: torch.device, warm: int) -> tuple[float, int, list[float]]:
    """A peer of `speed.py` on the same rows; the wall clock of its own callback, and the tokens that it read.

    Every step logs its loss, which waits for the device: losses have to be compared.
    """
    import speed  # noqa: PLC0415

    marks: list[int] = []
    tokens = Tokens(net)

    def clock() -> float:
        marks.append(tokens.calls)
        return _now(device)

    speed.CLOCK, speed.DEVICE = clock, device.type
    some = _documents(run)
    per_row = max(1, run.row_tokens * len(some) // sum(len(one.ids) for one in some))
    case = speed.Case(
        "-", run.method, row_tokens=run.row_tokens, batch=per_row, documents=per_row, steps=run.steps,
        vocabulary=SIZES[run.size]["vocab_size"],
    )  # fmt: skip
    match run.trainer:
        case "TRL packed" | "Unsloth":
            row = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1}
            told = list(speed._trl(net, some, case, packing=True, **row))
        case "HF flattened" | "HF + Liger":
            if run.trainer == "HF + Liger":
                _give_liger(net)
            told = list(speed.hf_flattened(net, some, case))
        case _:
            raise ValueError(f"nobody is called {run.trainer!r}")
    read = tokens.between(marks[warm], marks[run.steps])
    return sum(step.seconds for step in told[warm:]), read, [step.loss for step in told]


def _give_liger(net: nn.Module) -> None:
    """Liger's kernels in the place of the model's own, as HF's Trainer does with `use_liger_kernel`."""
    from liger_kernel.transformers import _apply_liger_kernel_to_instance  # noqa: PLC0415

    _apply_liger_kernel_to_instance(model=net.get_base_model() if hasattr(net, "get_base_model") else net)


def _unsloth(run: Run) -> nn.Module:
    """The same weights as Unsloth loads them, with adapters of the same size; it wants them from files."""
    from unsloth import FastLanguageModel  # noqa: PLC0415  # isort: skip  (it wants to be the first)

    from speed import Case, tokenizer  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as home:
        base = _model(replace(run, method="full"), torch.device("cpu"))
        base.save_pretrained(home)
        tokenizer(Case("-", run.method, vocabulary=SIZES[run.size]["vocab_size"])).save_pretrained(home)
        del base
        loaded, _ = FastLanguageModel.from_pretrained(
            home, max_seq_length=run.row_tokens, dtype=torch.bfloat16, load_in_4bit=run.method == "qlora",
            full_finetuning=run.method == "full",
        )  # fmt: skip
    if run.method == "full":
        return loaded
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return FastLanguageModel.get_peft_model(
        loaded, r=16, lora_alpha=32, lora_dropout=0, target_modules=names, use_gradient_checkpointing=False
    )


def predicted(run: Run) -> dict[str, Any]:
    """What the closed form and the dry run say of ours on one CUDA device; why not, where one of them cannot."""
    from gpu_memory import Case  # noqa: PLC0415

    from advisor.catalog.models import ModelShape  # noqa: PLC0415
    from advisor.estimate.memory import estimate  # noqa: PLC0415
    from advisor.estimate.setup import setup  # noqa: PLC0415
    from advisor.run.dry_config import config  # noqa: PLC0415
    from recipes.plan import Full, Lora  # noqa: PLC0415
    from trainers.dryrun import dry_run  # noqa: PLC0415

    size = SIZES[run.size]
    shape = ModelShape(
        name=run.size, layers=size["num_hidden_layers"], hidden=size["hidden_size"], heads=size["num_attention_heads"],
        kv_heads=size["num_key_value_heads"], head_width=size["hidden_size"] // size["num_attention_heads"],
        mlp=size["intermediate_size"], vocabulary=size["vocab_size"], tied=False, block="llama",
        estimator="closed_form", verified=True, source="benchmarks/gpu_speed.py",
    )  # fmt: skip
    base = "nf4" if run.method == "qlora" else "dense"
    adaptation = (
        Full() if run.method == "full" else Lora(rank=16, alpha=32.0, base=base, dora=run.method == "dora")
    )
    plan = Case(shape, adaptation, run.row_tokens, run.documents_tokens, checkpointing=False).plan
    share = _Share(run.row_tokens, run.row_tokens // 2, run.documents_tokens)
    ways: dict[str, Callable[[], int]] = {
        "closed_form_gib": lambda: estimate(setup(plan, shape, share, device="cuda")).allocated,
        "dry_run_gib": lambda: dry_run(plan, config(shape), label_share=0.5).allocated,
    }
    return {name: _told(way) for name, way in ways.items()}


@dataclass(frozen=True)
class _Share:
    """A full row, half of which is trained, as the estimate counts it."""

    tokens: int
    trained_tokens: int
    longest_tokens: int


def _told(way: Callable[[], int]) -> float | str:
    try:
        return round(way() / GIB, 3)
    except Exception as error:  # noqa: BLE001  (a prediction that fails is no reason not to measure)
        return f"{type(error).__name__}: {error}"[:200]


# --- one process a case ---


def one(case: dict[str, Any], peak_tflops: float, cap_gib: float | None) -> dict[str, Any]:
    """Answer a question or run a race in this process."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda" and cap_gib:
        torch.cuda.set_per_process_memory_fraction(
            min(1.0, cap_gib * GIB / torch.cuda.get_device_properties(device).total_memory)
        )
    try:
        if "question" in case:
            return {"ok": True, "answer": QUESTIONS[case["question"]](device)}
        return {"ok": True, **race(Run(**case), device, peak_tflops)}
    except Unasked as reason:
        return {"ok": None, "reason": str(reason)}
    except Exception as error:  # noqa: BLE001  (whatever it is, the other cases go on)
        return {"ok": False, "reason": f"{type(error).__name__}: {error}"[:400]}


def apart(case: dict[str, Any], asked: argparse.Namespace) -> dict[str, Any]:
    """The same in a process of its own."""
    python = dict(asked.python).get(case.get("trainer", ""), sys.executable)
    words = [python, __file__, "--one", json.dumps(case), "--peak-tflops", str(asked.peak_tflops)]
    words += ["--cap-gib", str(asked.cap_gib)] if asked.cap_gib else []
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=asked.minutes * 60)
    except subprocess.TimeoutExpired:
        return {"ok": False, "reason": f"no end after {asked.minutes} minutes"}
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"ok"')]
    return (
        json.loads(lines[-1])
        if lines
        else {"ok": False, "reason": done.stderr[-400:] or str(done.returncode)}
    )


def cases(*, toy: bool, python: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Questions first, then every trainer that is there on every wanted pair, then peaks of ours."""
    yield from ({"question": name} for name in QUESTIONS)
    wanted = (("toy", "lora"), ("toy", "full")) if toy else WANTED
    small = {"row_tokens": 256, "documents_tokens": 64, "steps": 4} if toy else {}
    short = {**small, "steps": 3}
    names = [name for name in TRAINERS if _is_there(name, python)]
    yield from (asdict(Run(name, size, method, **small)) for size, method in wanted for name in names)
    for size, method, tokens in (("toy", "dora", 128),) if toy else PEAKS:
        yield asdict(Run("ours", size, method, **{**short, "row_tokens": tokens}))


def _is_there(name: str, python: dict[str, str]) -> bool:
    """Whether the environment of a trainer has what it needs; asked without importing it."""
    package = NEEDS.get(name)
    if package is None or (name not in python and find_spec(package)):
        return True
    words = [python.get(name, ""), "-c", f"import importlib.util as u; assert u.find_spec({package!r})"]
    return bool(words[0]) and subprocess.run(words, capture_output=True, check=False).returncode == 0


def main() -> None:
    """Everything, or one case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--toy", action="store_true", help="small shapes; runs on a CPU too")
    parser.add_argument("--cap-gib", type=float, help="no case may have more memory than this")
    parser.add_argument(
        "--peak-tflops", type=float, default=989.0, help="dense bf16 peak of the card (H200: 989)"
    )
    parser.add_argument(
        "--python", type=lambda text: tuple(text.split("=", 1)), action="append", default=[], metavar="TRAINER=PATH",
        help="the interpreter of a trainer with an environment of its own",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=30, help="the longest that one case may take")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(asked.one, asked.peak_tflops, asked.cap_gib)))
        return
    if not asked.toy and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --toy runs small shapes on a CPU")
    result: dict[str, Any] = {
        "versions": versions(
            "torch", "transformers", "peft", "accelerate", "bitsandbytes", "trl", "liger_kernel", "unsloth"
        ),
        "machine": machine(), "cap_gib": asked.cap_gib, "peak_tflops": asked.peak_tflops, "not_asked": NOT_ASKED,
        "cases": [],
    }  # fmt: skip
    for what, why in NOT_ASKED.items():
        print(f"{what:40} not asked: {why}")
    for case in cases(toy=asked.toy, python=dict(asked.python)):
        found = apart(case, asked)
        if case.get("trainer") == "ours":
            found["predicted"] = predicted(Run(**case))
        name = case.get("question") or Run(**case).name
        print(
            f"{name:40} {json.dumps({k: v for k, v in found.items() if k != 'ok'}) if found['ok'] is not False else 'FAILED ' + found['reason']}",
            flush=True,
        )
        result["cases"].append({**case, **found})
        asked.out.write_text(json.dumps(result, indent=1) + "\n")  # what is there is kept, whatever follows


if __name__ == "__main__":
    main()
