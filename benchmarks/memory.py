"""Closed-form estimates against published peaks of one GPU: a table by profile and method, and a JSON of every row.

Run: `python benchmarks/memory.py CASES.json [OUT.json]`. CASES has measured rows (`data`: model, method, seq_len,
micro_batch, ... , measured_gib, tier). A row is scored where the profile of its trainer and version is known and its
configuration is complete; every other row is listed as unsupported, with the reason.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

from advisor.catalog.models import model
from advisor.errors import AdvisorError
from advisor.estimate.memory import estimate
from advisor.estimate.profiles import Profile, profile
from advisor.estimate.setup import Setup
from advisor.units import GIB
from recipes.plan import Adaptation, Full, Lora

UNDER = 0.05
"""A prediction this far below what was measured costs somebody a night."""

Case = Mapping[str, Any]


class Unscored(Exception):
    """A row that is not scored, and why."""


@dataclass(frozen=True)
class Scored:
    """One row: predicted and measured bytes."""

    id: str
    group: str
    predicted: int
    measured: int
    winner: str

    @property
    def error(self) -> float:
        """Signed, as a share of what was measured."""
        return self.predicted / self.measured - 1


def main() -> None:
    """Score every row of the file."""
    cases = json.loads(Path(sys.argv[1]).read_text())["data"]
    rows, refused = [], []
    for case in cases:
        try:
            rows.append(_scored(case))
        except (Unscored, AdvisorError) as reason:
            refused.append({"id": case["id"], "reason": str(reason)})
    lines = list(_table(rows))
    print("\n".join((*lines, f"{len(refused)} of {len(cases)} rows are not scored")))
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(json.dumps(_results(rows, refused), indent=1) + "\n")


def _scored(case: Case) -> Scored:
    setup = Setup(
        shape=model(case["model"]),
        adaptation=_adaptation(case),
        profile=_profile(case),
        micro_batch_tokens=case["seq_len"] * case["micro_batch"],
        longest_tokens=case["seq_len"],
        accumulates=(case["grad_accum"] or 1) > 1,
        checkpointing=bool(case["grad_ckpt"]),
    )
    found = estimate(setup)
    group = f"tier {case['tier']} {setup.profile.name} {case['method']}"
    measured = round(case["measured_gib"] * GIB)
    return Scored(case["id"], group, found.allocated, measured, found.winner.name)


def _adaptation(case: Case) -> Adaptation:
    match case["method"]:
        case "full":
            return Full()
        case "lora" | "qlora":
            base = {"qlora": "nf4"}.get(case["method"], "dense")
            targets = tuple(case["lora_targets"] or ())
            if not (targets and case["lora_rank"]):
                raise Unscored("rank or targets are not told")
            if case["lora_dropout"] and not case["grad_ckpt"]:
                raise Unscored("dropout keeps masks where activations are kept")
            double = case["quant"] != "nf4"
            return Lora(base=base, rank=case["lora_rank"], targets=targets, double_quantisation=double)
        case other:
            raise Unscored(f"method {other}")


def _profile(case: Case) -> Profile:
    if case["metric"] != "allocated" or case["weights_dtype"] != "bf16" or case["mask_materialised"]:
        raise Unscored("not allocated bytes of a bf16 base without a mask")
    version = (case["versions"] or {}).get("transformers")
    name = {
        ("full_fp32_upcast", "4.48.1"): "hf-trainer-kbit" if case["kbit_prep"] else "hf-trainer",
        ("foak", "4.48.1"): "foak",
        ("foak", "4.45.2"): "foak-4.45",
        ("fused_linear", "4.45.2"): "liger",
    }.get((case["loss"], version))
    if name is None:
        raise Unscored(f"no profile for a {case['loss']} loss with transformers {version}")
    math = {"fp32": "autocast" if case["autocast_dtype"] else "adapter"}.get(case["adapter_dtype"], "base")
    return replace(profile(name), adapter_math=math)


def _table(rows: list[Scored]) -> Iterator[str]:
    yield f"{'group':<36}{'n':>4}{'MAPE':>9}{'median':>9}{'worst':>9}{'under':>7}"
    groups = sorted({row.group for row in rows})
    for group in (*groups, "all"):
        errors = [row.error for row in rows if group in {row.group, "all"}]
        sizes = [abs(error) for error in errors]
        under = sum(error < -UNDER for error in errors)
        yield f"{group:<36}{len(errors):>4}{mean(sizes):>9.2%}{median(sizes):>9.2%}{max(sizes):>9.2%}{under:>7}"


def _results(rows: list[Scored], refused: list[dict[str, str]]) -> dict[str, object]:
    scored = [
        {
            "id": row.id,
            "group": row.group,
            "winner": row.winner,
            "predicted_gib": round(row.predicted / GIB, 4),
            "measured_gib": round(row.measured / GIB, 4),
            "error": round(row.error, 5),
        }
        for row in rows
    ]
    return {"scored": scored, "unsupported": refused}


if __name__ == "__main__":
    main()
