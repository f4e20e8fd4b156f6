"""One command for a GPU: open questions first, then tokens a second, MFU and peaks of ours beside TRL and HF.

Run: `python benchmarks/gpu_speed.py [--cap-gib 80] [--peak-tflops 989]`; `--toy` runs the same code on small shapes,
on a CPU too. Weights are random and made in place, so nothing is downloaded. Each case is a process of its own: what
ends one of them is written down, and the others go on. Prints lines, and writes `results/gpu_speed.json`.

MFU counts 4 N FLOP a token for adapters and 6 N for all weights, N without embeddings and head, and nothing for
recomputation. At a memory cap: a case that needs more than the cap fails, and says so.
"""

import argparse
import json
import logging
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
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


SIZES: dict[str, dict[str, int]] = {
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128256},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "vocab_size": 128256},
    "toy": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 256},
}  # fmt: skip
TRAINERS = ("ours", "HF flattened", "TRL packed")
WANTED = (("1b", "lora"), ("8b", "lora"), ("1b", "full"), ("8b", "qlora"))


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


def norms(device: torch.device) -> str:
    """Our norm beside torch's fused one: microseconds forward and backward on 8,192 x 4,096 bf16."""
    from trainers.adapt.blocks import SCALES, _RmsNorm  # noqa: PLC0415

    rows, width = (8192, 4096) if device.type == "cuda" else (64, 64)
    x = torch.randn(rows, width, device=device, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.ones(width, device=device, dtype=torch.bfloat16)
    ways: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: _RmsNorm.apply(x, weight, 1e-6, SCALES[0]),
        "F.rms_norm": lambda: F.rms_norm(x, (width,), weight, 1e-6),
    }
    return ", ".join(f"{name} {_microseconds(way, device):.0f} us" for name, way in ways.items())


def day_matmul(device: torch.device) -> str:
    """What a large product reaches today: the roof that MFU is held against besides the data sheet's."""
    size = 8192 if device.type == "cuda" else 128
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = _microseconds(lambda: a @ b, device, backward=False) / 1e6
    return f"{2 * size**3 / seconds / 1e12:.1f} TFLOP/s"


QUESTIONS: dict[str, Callable[[torch.device], str]] = {
    "varlen against documents": varlen,
    "our functions against the libraries": our_functions,
    "no waiting inside a step": no_waiting,
    "found_inf holds a step": found_inf,
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
    targets = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
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
    from recipes.plan import Layout, Schedule  # noqa: PLC0415
    from trainers import batches  # noqa: PLC0415
    from trainers.adapt import functions  # noqa: PLC0415
    from trainers.engine.accelerated import Accelerated  # noqa: PLC0415
    from trainers.loop import Learner, Loss, train  # noqa: PLC0415
    from trainers.optim import adamw  # noqa: PLC0415
    from trainers.policy import causal  # noqa: PLC0415
    from trainers.policy.forward import packed_nll, packed_rows  # noqa: PLC0415

    functions.install(net)
    schedule = Schedule(
        epochs=100.0, max_steps=run.steps, micro_batch_tokens=run.row_tokens, learning_rate=1e-4
    )
    engine, inner = Accelerated(Layout(device=device.type, threads=None)), causal(net)
    learner, optimizer = engine.prepare(
        Learner(net, lambda batch: Loss(packed_nll(inner, batch), batch.count)), adamw(net, schedule)
    )
    groups = batches.groups(_documents(run), schedule, device)
    with packed_rows(inner):
        yield from train(
            learner, groups, optimizer, engine, learning_rate=lambda _: 1e-4, clip_norm=1.0, look=look
        )


def race(run: Run, device: torch.device, peak_tflops: float) -> dict[str, Any]:
    """Train some steps, and tell speed and memory."""
    net = _model(run, device)
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
        seconds, tokens, losses = _peer(net, run, warm)
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


def _peer(net: nn.Module, run: Run, warm: int) -> tuple[float, int, list[float]]:
    """A peer of `speed.py` on the same rows; the wall clock of its own callback."""
    import speed  # noqa: PLC0415

    speed.CLOCK, speed.DEVICE = time.perf_counter, "cpu" if not torch.cuda.is_available() else "cuda"
    some = _documents(run)
    per_row = max(1, run.row_tokens * len(some) // sum(len(one.ids) for one in some))
    case = speed.Case(
        "-", run.method, row_tokens=run.row_tokens, batch=per_row, documents=per_row, steps=run.steps,
        vocabulary=SIZES[run.size]["vocab_size"],
    )  # fmt: skip
    if run.trainer == "TRL packed":
        told = list(speed.trl_packed(net, some, replace(case, documents=1)))
    elif run.trainer == "HF flattened":
        told = list(speed.hf_flattened(net, some, case))
    else:
        raise ValueError(f"nobody is called {run.trainer!r}")
    tokens = sum(len(one.ids) for one in some) * (run.steps - warm) // (run.steps + 1)
    return sum(step.seconds for step in told[warm:]), tokens, [step.loss for step in told]


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
    words = [sys.executable, __file__, "--one", json.dumps(case), "--peak-tflops", str(asked.peak_tflops)]
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


def cases(*, toy: bool) -> list[dict[str, Any]]:
    """Questions first, then every trainer on every wanted pair."""
    wanted = (("toy", "lora"), ("toy", "full")) if toy else WANTED
    small = {"row_tokens": 256, "documents_tokens": 64, "steps": 4} if toy else {}
    installed = versions("trl")["trl"] is not None
    names = [name for name in TRAINERS if installed or not name.startswith("TRL")]
    runs = [Run(name, size, method, **small) for size, method in wanted for name in names]
    return [{"question": name} for name in QUESTIONS] + [asdict(run) for run in runs]


def main() -> None:
    """Everything, or one case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--toy", action="store_true", help="small shapes; runs on a CPU too")
    parser.add_argument("--cap-gib", type=float, help="no case may have more memory than this")
    parser.add_argument(
        "--peak-tflops", type=float, default=989.0, help="dense bf16 peak of the card (H200: 989)"
    )
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
        "versions": versions("torch", "transformers", "peft", "accelerate", "bitsandbytes", "trl"),
        "machine": machine(), "cap_gib": asked.cap_gib, "peak_tflops": asked.peak_tflops, "cases": [],
    }  # fmt: skip
    for case in cases(toy=asked.toy):
        found = apart(case, asked)
        name = case.get("question") or f"{case['size']} {case['method']} {case['trainer']}"
        print(
            f"{name:40} {json.dumps({k: v for k, v in found.items() if k != 'ok'}) if found['ok'] is not False else 'FAILED ' + found['reason']}",
            flush=True,
        )
        result["cases"].append({**case, **found})
        asked.out.write_text(json.dumps(result, indent=1) + "\n")  # what is there is kept, whatever follows


if __name__ == "__main__":
    main()
