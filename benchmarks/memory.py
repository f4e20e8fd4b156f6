"""Closed-form estimates against published peaks: by tier, trainer and method, beside two other estimators.

Run: `python benchmarks/memory.py CASES.json [OUT.json]`. CASES has measured rows (`data`: the fields that
`advisor estimate --spec` takes, and `measured_gib`, `metric`, `tier`). Each row goes through the same door as a
person's record, without what was measured; one that is refused is counted, with the reason. The peers answer the same
rows in the same run: fitcheck-llm 0.3.1 (`pip install fitcheck-llm==0.3.1`, MIT; left out where it is not installed),
and the rule of accelerate's `estimate-memory` (bytes of training by parameter, whatever the method).
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import mean, median
from typing import Any

from advisor.catalog.gpus import gpus
from advisor.catalog.models import model
from advisor.estimate.shapes import parameters
from advisor.show.batch import answer
from advisor.units import GIB

UNDER = 0.05
"""A prediction this far below what was measured costs somebody a night."""
MARGIN = 0.10
"""A verdict is never wrong where what was measured is this far from what the card has."""
GATES = {1: {"MAPE": 0.02, "p95": 0.06, "under": 0.02, "unsupported": 0.10}, 2: {"MAPE": 0.06}}
"""What each tier has to reach."""
RATE_ROUNDS = 5
MIB = 2**20

Case = Mapping[str, Any]


@dataclass(frozen=True)
class Scored:
    """One row: bytes predicted and measured, and the interval of the quantity that was measured."""

    id: str
    tier: int
    trainer: str
    method: str
    profile: str
    predicted: int
    measured: int
    low: float
    high: float
    winner: str

    @property
    def error(self) -> float:
        """Signed, as a share of what was measured."""
        return self.predicted / self.measured - 1

    @property
    def covered(self) -> bool:
        """Whether the interval holds what was measured."""
        return self.low <= self.measured <= self.high

    @property
    def width(self) -> float:
        """The interval's width, as a share of what was measured."""
        return (self.high - self.low) / self.measured


def main() -> None:
    """Score every row of the file."""
    cases = json.loads(Path(sys.argv[1]).read_text())["data"]
    rows, refused = ours(cases)
    scores = list(groups(cases, rows, refused))
    peers = {name: peer(cases, rows, ask) for name, ask in PEERS.items()}
    judged = verdicts(cases)
    pace = estimates_per_second(cases)
    said = (*table(scores), *told(peers), *gates(scores), *fits(judged), f"{pace:.0f} estimates a second")
    print("\n".join(said))
    if len(sys.argv) > 2:
        result = {
            "versions": {"fitcheck-llm": _version("fitcheck-llm"), "accelerate": _version("accelerate")},
            "machine": "2 cores, no GPU",
            "estimates_per_second": round(pace),
            "scores": scores,
            "peers": peers,
            "verdicts": judged,
            "rows": [_row(row) for row in rows],
            "unsupported": refused,
        }
        Path(sys.argv[2]).write_text(json.dumps(result, indent=1) + "\n")


def ours(cases: Sequence[Case]) -> tuple[list[Scored], list[dict[str, str]]]:
    """Every row through the door of `--spec`."""
    rows, refused = [], []
    for case in cases:
        found = answer({name: value for name, value in case.items() if not name.startswith("measured")})
        if found["status"] == "ok":
            rows.append(_scored(case, found))
        else:
            refused.append({"id": case["id"], "reason": found["reason"]})
    return rows, refused


def _scored(case: Case, found: Mapping[str, Any]) -> Scored:
    peak, metric = found["peak_allocated_bytes"], case["metric"]
    low, high = peak * (1 - found["tolerance"]), peak * (1 + found["tolerance"])
    if metric in {"reserved", "process"}:
        interval = found[f"peak_{metric}_bytes"]
        low, high = min(low, interval["low"]), interval["high"]
    return Scored(
        id=case["id"],
        tier=case["tier"],
        trainer=case["profile"],
        method=case["method"],
        profile=found["profile"],
        predicted=peak,
        measured=round(case["measured_gib"] * GIB),
        low=low,
        high=high,
        winner=found["winner"],
    )


def groups(
    cases: Sequence[Case], rows: Sequence[Scored], refused: Sequence[Mapping[str, str]]
) -> Iterator[dict[str, Any]]:
    """Each tier, then each trainer and method in it: never pooled over tiers."""
    without = {one["id"] for one in refused}
    keys = sorted({(case["tier"], case["profile"], case["method"]) for case in cases})
    tiers = sorted({case["tier"] for case in cases})
    for tier, trainer, method in [(tier, "all", "all") for tier in tiers] + keys:
        mine = [row for row in rows if _is_in(row.tier, row.trainer, row.method, tier, trainer, method)]
        all_ = [
            case
            for case in cases
            if _is_in(case["tier"], case["profile"], case["method"], tier, trainer, method)
        ]
        missing = sum(case["id"] in without for case in all_)
        yield {
            "tier": tier,
            "trainer": trainer,
            "method": method,
            **_figures(mine),
            "unsupported": missing / len(all_),
        }


def _is_in(tier: int, trainer: str, method: str, *wanted: object) -> bool:
    return all(want in {"all", have} for have, want in zip((tier, trainer, method), wanted, strict=True))


def _figures(rows: Sequence[Scored]) -> dict[str, float | int]:
    if not rows:
        return {"n": 0}
    sizes = sorted(abs(row.error) for row in rows)
    return {
        "n": len(rows),
        "MAPE": mean(sizes),
        "median": median(sizes),
        "p95": sizes[min(len(sizes) - 1, int(0.95 * len(sizes)))],
        "worst": sizes[-1],
        "bias": mean(row.error for row in rows),
        "under": sum(row.error < -UNDER for row in rows) / len(rows),
        "covered": sum(row.covered for row in rows) / len(rows),
        "width": mean(row.width for row in rows),
    }


def table(scores: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line a group."""
    names = ("n", "MAPE", "median", "p95", "worst", "bias", "under", "covered", "width", "unsupported")
    yield f"{'group':<48}" + "".join(f"{name:>12}" for name in names)
    for score in scores:
        figures = "".join(_cell(score.get(name)) for name in names)
        yield f"tier {score['tier']} {score['trainer']:<26}{score['method']:<15} {figures}"


def _cell(value: float | None) -> str:
    if value is None:
        return f"{'-':>12}"
    return f"{value:>12}" if isinstance(value, int) else f"{value:>12.2%}"


def gates(scores: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What each tier had to reach, and whether it did."""
    for score in scores:
        if score["trainer"] == "all":
            for name, limit in GATES.get(score["tier"], {}).items():
                holds = "reached" if score[name] <= limit else "MISSED"
                yield f"tier {score['tier']}: {name} {score[name]:.2%} of at most {limit:.0%}: {holds}"


# --- does it fit? ---


def verdicts(cases: Sequence[Case]) -> dict[str, Any]:
    """Each row on each card: what we say, and whether what was measured is at least `MARGIN` away from contradicting it.

    "fits" is wrong where more was measured than the card has, "does not fit" where less was. A row whose tensors alone
    were measured can show the first only by them.
    """
    cards = {name: one.usable_bytes for name, one in gpus().items() if one.usable_bytes}
    said, wrong, clear, decided = Counter[str](), list[dict[str, object]](), 0, 0
    for case in cases:
        record = {name: value for name, value in case.items() if not name.startswith("measured")}
        if answer(record)["status"] != "ok":
            continue
        for name, usable in cards.items():
            verdict = answer({**record, "gpu": name})["verdict"]
            said[verdict] += 1
            ratio = case["measured_gib"] * GIB / usable
            away = abs(ratio - 1) >= MARGIN
            clear += away
            decided += away and verdict in {"fits", "does_not_fit"}
            if away and verdict == ("fits" if ratio > 1 else "does_not_fit"):
                wrong.append(
                    {"id": case["id"], "gpu": name, "said": verdict, "measured_share": round(ratio, 3)}
                )
    return {
        "cards": len(cards),
        "said": dict(said),
        "clear": clear,
        "decided": decided / clear,
        "wrong": wrong,
    }


def fits(judged: Mapping[str, Any]) -> Iterator[str]:
    """The verdicts in words; a wrong one by name."""
    yield f"verdicts on {judged['cards']} cards: {judged['said']}"
    yield (
        f"at a margin of {MARGIN:.0%} or more: {len(judged['wrong'])} of {judged['clear']} wrong, "
        f"{judged['decided']:.1%} decided (fits, or does not)"
    )
    yield from (f"  WRONG {one}" for one in judged["wrong"])


# --- others, on the same rows ---


def _accelerate(case: Case) -> float | None:
    """Training in bfloat16 by `accelerate estimate-memory`: twice the fp32 model, whatever the method."""
    return 8.0 * parameters(model(case["model"]))


def _fitcheck(case: Case) -> float | None:
    """Fitcheck's tensors (its total without context and fragmentation); None for what it does not describe."""
    try:
        config, estimator, gpus = (
            import_module(f"fitcheck.{name}") for name in ("config_parser", "estimator", "gpu_db")
        )
    except ImportError:
        return None
    shape = model(case["model"])
    if case["method"] not in {"full", "lora", "qlora"} or shape.moe:
        return None
    try:
        found = estimator.estimate(
            config.ModelConfig(
                name=shape.name,
                num_params=parameters(shape),
                hidden_size=shape.hidden,
                num_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_kv_heads=shape.kv_heads,
                intermediate_size=shape.mlp,
                vocab_size=shape.vocabulary,
                head_dim=shape.head_width,
                tie_word_embeddings=bool(shape.tied),
            ),
            estimator.TrainingConfig(
                quantization="nf4" if case["method"] == "qlora" else "none",
                double_quant=case["quant"] == "nf4_dq",
                batch_size=case["micro_batch"],
                seq_len=case["seq_len"],
                lora_rank=case["lora_rank"],
                lora_targets=list(case["lora_targets"] or []),
                grad_checkpoint=bool(case["grad_ckpt"]),
                flash_attn=case["attention"] == "flash",
            ),
            gpus.get_gpu("a100-80"),
        )
    except ValueError:
        return None
    parts = ("weight_mib", "lora_mib", "optimizer_mib", "gradient_mib", "activation_mib")
    return MIB * float(sum(getattr(found, part) for part in parts))


PEERS: Mapping[str, Callable[[Case], float | None]] = {
    "fitcheck-llm tensors": _fitcheck,
    "accelerate estimate-memory": _accelerate,
}


def peer(
    cases: Sequence[Case], rows: Sequence[Scored], ask: Callable[[Case], float | None]
) -> dict[str, Any]:
    """A peer's error by tier on the rows that both describe, beside ours on the very same rows."""
    known = {row.id: row for row in rows}
    found = [(known[case["id"]], ask(case)) for case in cases if case["id"] in known]
    pairs = [(row, size) for row, size in found if size is not None]
    return {
        f"tier {tier}": {
            "n": sum(row.tier == tier for row, _ in pairs),
            "MAPE": mean(abs(size / row.measured - 1) for row, size in pairs if row.tier == tier),
            "ours": mean(abs(row.error) for row, _ in pairs if row.tier == tier),
        }
        for tier in sorted({row.tier for row, _ in pairs})
    }


def told(peers: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[str]:
    """What the others reach, or what to install."""
    for name, tiers in peers.items():
        if not tiers:
            yield f"{name}: not installed (pip install fitcheck-llm==0.3.1)"
        for tier, found in tiers.items():
            yield f"{name}, {tier}: MAPE {found['MAPE']:.1%} on {found['n']} rows; ours there {found['ours']:.2%}"


def estimates_per_second(cases: Sequence[Case]) -> float:
    """Records answered in a second of one process's CPU time: the median of some rounds over all that are supported."""
    records = [dict(case) for case in cases if answer(dict(case))["status"] == "ok"]
    paces = []
    for _ in range(RATE_ROUNDS):
        began = time.process_time()
        for record in records:
            answer(record)
        paces.append(len(records) / (time.process_time() - began))
    return median(paces)


def _row(row: Scored) -> dict[str, Any]:
    return {
        "id": row.id,
        "profile": row.profile,
        "winner": row.winner,
        "predicted_gib": round(row.predicted / GIB, 4),
        "measured_gib": round(row.measured / GIB, 4),
        "error": round(row.error, 5),
        "covered": row.covered,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
