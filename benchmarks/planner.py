"""How long the planner takes, and how many plans it looks at: one model and many, one card and several.

Run: `python benchmarks/planner.py [OUT.json]`. Medians of repeated runs in one process, beside the time of one estimate in the
same run, so that the ratio does not depend on the machine.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from platform import python_version
from statistics import median
from time import process_time

from advisor.catalog.gpus import hardware
from advisor.catalog.models import model
from advisor.data.stats import DataStats
from advisor.plan.alternatives import Fleet, alternatives
from advisor.plan.compose import TRAINED_LEAVES, RowFiles, Wanted, first
from advisor.plan.fit import Case
from advisor.plan.fits import WELL_KNOWN
from recipes.plan import Evaluation

REPEATS = 7
STATS = DataStats(20_000, 12_000_000, 4_000_000, 1800, 1500, 600.0, "tokenizer")
FILES = RowFiles("train.jsonl", "0" * 64, "held_out.jsonl", "1" * 64)
CASES = {
    "8B, RTX 4090": (("Qwen/Qwen3-8B",), "RTX 4090", Fleet()),
    "8B, 8 x H100": (("Qwen/Qwen3-8B",), "H100 SXM5 80GB", Fleet(8)),
    "70B, 2 nodes of 8 A100": (("meta-llama/Llama-3.1-70B",), "A100 SXM4 80GB", Fleet(8, 2)),
    "7 models, 4 x A100": (WELL_KNOWN, "A100 SXM4 80GB", Fleet(4)),
}


def main() -> None:
    """Time every case."""
    shape = model("Qwen/Qwen3-8B")
    one = _wanted(("Qwen/Qwen3-8B",), "RTX 4090")[0]
    plan, _ = first(one)
    case = Case(shape, STATS, one.hardware)
    unit = _seconds(lambda: [case.needs(plan) for _ in range(100)]) / 100
    rows = []
    for name, (names, card, fleet) in CASES.items():
        wanted = _wanted(names, card)
        found = alternatives(wanted, fleet)
        seconds = _seconds(lambda wanted=wanted, fleet=fleet: alternatives(wanted, fleet))
        rows.append(
            {
                "case": name,
                "plans": len(found),
                "seconds": round(seconds, 4),
                "estimates": round(seconds / unit),
                "best": found[0].wanted.leaf,
            }
        )
        print(
            f"{name:<26}{len(found):>4} plans {seconds:>8.3f} s   as long as {seconds / unit:>6.0f} estimates"
        )
    if len(sys.argv) > 1:
        body = {
            "machine": "2 cores, no GPU, processor time",
            "python": python_version(),
            "repeats": REPEATS,
            "seconds_an_estimate": round(unit, 6),
            "cases": rows,
        }
        Path(sys.argv[1]).write_text(json.dumps(body, indent=1) + "\n")


def _wanted(names: tuple[str, ...], card: str) -> list[Wanted]:
    machine = hardware(gpu=card)
    return [
        Wanted(leaf, "a-run", name, model(name), FILES, STATS, Evaluation(), machine)
        for name in names
        for leaf in TRAINED_LEAVES
    ]


def _seconds(work: Callable[[], object]) -> float:
    """Median processor time of `work`."""
    taken = []
    for _ in range(REPEATS):
        start = process_time()
        work()
        taken.append(process_time() - start)
    return median(taken)


if __name__ == "__main__":
    main()
