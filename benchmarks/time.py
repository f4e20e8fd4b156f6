"""Predicted against published time of a micro-batch on one GPU: a table by model and method, and a JSON of every row.

Run: `python benchmarks/time.py CASES.json [OUT.json]`. CASES has measured rows (`data`: model, method, seq_len, micro_batch,
token_count_kind, measured_seconds_per_micro_step, ...). A row is scored where tokens are counted as they are computed
("padded") and its configuration is complete; every other row is listed, with the reason. The rates that were set by
looking at such rows are also set anew without the rows of one model at a time, and scored on that model alone.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log
from pathlib import Path
from platform import python_version
from statistics import mean, median
from typing import Any

from advisor.catalog.gpus import Gpu, gpu, hardware
from advisor.catalog.models import model
from advisor.errors import AdvisorError
from advisor.estimate import rates, time
from advisor.estimate.profiles import Profile, profile
from advisor.estimate.setup import Setup
from advisor.estimate.work import Work, micro_batch, step
from recipes.plan import Adaptation, Full, Lora

Case = Mapping[str, Any]

NAMES = {
    "c_attn": ("q_proj", "k_proj", "v_proj"),
    "c_proj": ("o_proj", "down_proj"),
    "w1": ("up_proj",),
    "w2": ("gate_proj",),
}
"""What the linear layers of the first Qwen models are called in later ones."""


class Unscored(Exception):
    """A row that is not scored, and why."""


@dataclass(frozen=True)
class Row:
    """One measured configuration, and what is predicted for it."""

    id: str
    model: str
    group: str
    setup: Setup
    card: Gpu
    accumulation: int
    measured: float
    timing: time.Timing
    work: Work
    update_bytes: float

    @property
    def error(self) -> float:
        """Signed, as a share of what was measured."""
        return self.timing.expected / self.measured - 1

    @property
    def covered(self) -> bool:
        """Whether the interval of a step's micro-batch has it."""
        whole = self.timing.step
        return whole.low <= self.measured * self.accumulation <= whole.high


@dataclass(frozen=True)
class Set:
    """The rates that published rows decided, as factors of those in `rates.toml`."""

    matmul: float = 1.0
    eager: float = 1.0
    launch: float = 1.0
    gather: float = 1.0


def main() -> None:
    """Score every row of the file."""
    cases = json.loads(Path(sys.argv[1]).read_text())["data"]
    rows, refused = list[Row](), []
    for case in cases:
        try:
            rows.append(_row(case))
        except (Unscored, AdvisorError) as reason:
            refused.append({"id": case["id"], "reason": str(reason)})
    left_out = _left_out(rows)
    print("\n".join((*_table(rows), "", *_left_table(left_out))))
    print(f"{len(refused)} of {len(cases)} rows are not scored")
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(json.dumps(_results(rows, left_out, refused), indent=1) + "\n")


def _row(case: Case) -> Row:
    if case["token_count_kind"] != "padded":
        raise Unscored(f"tokens are counted as {case['token_count_kind']}")
    measured = case["measured_seconds_per_micro_step"]
    if not measured or case["weights_dtype"] != "bf16" or case["mask_materialised"]:
        raise Unscored("no seconds of a micro-batch, or not a 16-bit base in a flash kernel")
    setup = Setup(
        shape=model(case["model"]),
        adaptation=_adaptation(case),
        profile=_profile(case),
        micro_batch_tokens=case["seq_len"] * case["micro_batch"],
        longest_tokens=case["seq_len"],
        accumulates=(case["grad_accum"] or 1) > 1,
        checkpointing=bool(case["grad_ckpt"]),
        optimizer="adamw_8bit" if case["optimizer"] == "adamw_8bit" else "adamw",
        sharding=case["sharding"] or "none",
        extra_modules=tuple(case["extra_trained_modules"] or ()),
    )
    accumulation = case["grad_accum"] or 1
    found = time.timing(setup, hardware(gpu=case["gpu"]), 1e6, accumulation=accumulation)
    if isinstance(found, time.Untimed):
        raise Unscored(str(found))
    return Row(
        id=case["id"],
        model=case["model"],
        group=f"{case['model'].split('/')[1]} {case['method']} {case['profile']}",
        setup=setup,
        card=gpu(case["gpu"]),
        accumulation=accumulation,
        measured=measured,
        timing=found,
        work=micro_batch(setup),
        update_bytes=step(setup).stream_bytes,
    )


def _adaptation(case: Case) -> Adaptation:
    match case["method"]:
        case "full":
            return Full()
        case "lora" | "qlora":
            named = (NAMES.get(name, (name,)) for name in case["lora_targets"] or ())
            targets = tuple(name for names in named for name in names)
            if not (targets and case["lora_rank"]):
                raise Unscored("rank or targets are not told")
            return Lora(
                base="nf4" if case["quant"] else "dense",
                rank=case["lora_rank"],
                targets=targets,
                dropout=case["lora_dropout"] or 0.0,
                double_quantisation=case["quant"] != "nf4",
            )
        case other:
            raise Unscored(f"method {other}")


def _profile(case: Case) -> Profile:
    """The profile of the trainer; only what `work.py` reads of it matters here."""
    compiled = "torch_compile" in case["fused_kernels"]
    name = {"foak": "foak", "fused_linear": "liger", "chunked": "torchtune"}.get(case["loss"], "hf-trainer")
    found = profile("hf-trainer-kbit" if case["kbit_prep"] else name)
    math = {"fp32": "autocast" if case["autocast_dtype"] else "adapter"}.get(case["adapter_dtype"], "base")
    found = replace(found, adapter_math=math, experts_quantised=True)
    return replace(found, compiled=compiled)


# --- rates set without one model -----------------------------------------------------------------------------------


def _seconds(row: Row, rate: Set) -> float:
    known = rates.device()
    known = replace(
        known, matmul_share=known.matmul_share * rate.matmul, eager_share=known.eager_share * rate.eager
    )
    launch = rates.stack(row.setup.profile).launch_us[1] * rate.launch
    host = rates.exchange().block_seconds[row.setup.sharding] * time.gathers(row.setup) * rate.gather
    found = time.parts(row.work, row.setup, row.card, launch_us=launch, host_seconds=host, known=known)
    bandwidth = known.stream_share * (row.card.bandwidth_gbs or 0) * 1e9
    return found.seconds + row.update_bytes / bandwidth / row.accumulation


def _set_on(rows: Sequence[Row]) -> Set:
    """The factors with the smallest mean error on `rows`: a search along one rate at a time, from unity."""

    def loss(rate: Set) -> float:
        return mean(abs(log(_seconds(row, rate) / row.measured)) for row in rows)

    return _descend(Set(), loss)


def _descend(start: Set, loss: Callable[[Set], float]) -> Set:
    best, least, stride = start, loss(start), 0.2
    while stride > 0.005:
        before = least
        for name in ("matmul", "eager", "launch", "gather"):
            for way in (stride, -stride):
                tried = replace(best, **{name: getattr(best, name) * exp(way)})
                if (found := loss(tried)) < least - 1e-9:
                    best, least = tried, found
        if least >= before - 1e-9:
            stride /= 2
    return best


def _left_out(rows: Sequence[Row]) -> dict[str, tuple[Set, list[float]]]:
    found = {}
    for name in sorted({row.model for row in rows}):
        rate = _set_on([row for row in rows if row.model != name])
        errors = [_seconds(row, rate) / row.measured - 1 for row in rows if row.model == name]
        found[name] = (rate, errors)
    return found


# --- telling -------------------------------------------------------------------------------------------------------


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield f"{'group':<44}{'n':>4}{'MAPE':>9}{'median':>9}{'worst':>9}{'bias':>9}{'covered':>9}"
    for group in (*sorted({row.group for row in rows}), "all"):
        some = [row for row in rows if group in {row.group, "all"}]
        errors = [row.error for row in some]
        sizes = [abs(error) for error in errors]
        covered = mean(row.covered for row in some)
        yield (
            f"{group:<44}{len(some):>4}{mean(sizes):>9.2%}{median(sizes):>9.2%}{max(sizes):>9.2%}"
            f"{mean(errors):>9.2%}{covered:>9.0%}"
        )


def _left_table(left_out: Mapping[str, tuple[Set, list[float]]]) -> Iterator[str]:
    yield f"{'rates set without':<44}{'n':>4}{'MAPE':>9}{'worst':>9}"
    everything = list[float]()
    for name, (_, errors) in left_out.items():
        everything += errors
        sizes = [abs(error) for error in errors]
        yield f"{name:<44}{len(errors):>4}{mean(sizes):>9.2%}{max(sizes):>9.2%}"
    yield f"{'each in its turn':<44}{len(everything):>4}{mean(map(abs, everything)):>9.2%}"


def _results(
    rows: Sequence[Row], left_out: Mapping[str, tuple[Set, list[float]]], refused: list[dict[str, str]]
) -> dict[str, object]:
    sizes = [abs(row.error) for row in rows]
    each = [abs(error) for _, errors in left_out.values() for error in errors]
    scored = [
        {
            "id": row.id,
            "group": row.group,
            "limited_by": row.timing.limited_by,
            "predicted_s": round(row.timing.expected, 4),
            "measured_s": row.measured,
            "error": round(row.error, 4),
            "covered": row.covered,
        }
        for row in rows
    ]
    return {
        "python": python_version(),
        "machine": "2 cores, no GPU: arithmetic only",
        "mape": round(mean(sizes), 4),
        "worst": round(max(sizes), 4),
        "covered": round(mean(row.covered for row in rows), 3),
        "mape_without_own_model": round(mean(each), 4),
        "without": {
            name: {"mape": round(mean(map(abs, errors)), 4), "factors": vars(rate)}
            for name, (rate, errors) in left_out.items()
        },
        "scored": scored,
        "unscored": refused,
    }


if __name__ == "__main__":
    main()
