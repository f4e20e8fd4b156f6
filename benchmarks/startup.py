"""How long commands take to start, against importing networkx, jinja2 and pydantic alone: hyperfine, in turns.

Run: `python benchmarks/startup.py [OUT.json]`; needs hyperfine. All commands are measured in each round, one after the
other, so that a busy machine slows them alike; told are medians over rounds of the ratio within a round. Processor time (user and
system) hardly feels other programs, wall time does: both are told.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from statistics import median

ROUNDS, RUNS = 7, 5
MOST = 2.0
"""How much longer than the bare imports an advice may take."""
BARE = "import networkx, jinja2, pydantic"
COMMANDS = {
    "imports alone": f'{sys.executable} -c "{BARE}"',
    "advisor --help": f"{sys.executable} -m advisor --help",
    "advisor recommend --vram 24": f"{sys.executable} -m advisor recommend --vram 24",
    "advisor gpus": f"{sys.executable} -m advisor gpus",
    "advisor models": f"{sys.executable} -m advisor models",
}

Times = Mapping[str, Mapping[str, float]]


def main() -> None:
    """Measure all commands and compare each with the bare imports."""
    rounds = [_round() for _ in range(ROUNDS)]
    ratios = {
        name: {
            kind: round(median(one[name][kind] / one["imports alone"][kind] for one in rounds), 3)
            for kind in ("wall", "cpu")
        }
        for name in COMMANDS
    }
    for name, found in ratios.items():
        seconds = median(one[name]["cpu"] for one in rounds)
        print(
            f"{name:<32}{seconds * 1000:>7.0f} ms cpu   x{found['cpu']:.2f} cpu   x{found['wall']:.2f} wall"
        )
    advice = ratios["advisor recommend --vram 24"]
    print(f"advice at most {MOST:g}x: {'yes' if max(advice.values()) <= MOST else 'no'}")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(_results(ratios, rounds), indent=1) + "\n")


def _round() -> Times:
    """Median seconds of each command, from one call of hyperfine."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        words = ["hyperfine", "-N", "--warmup", "1", "--runs", str(RUNS), "--export-json", file.name]
        subprocess.run([*words, *COMMANDS.values()], check=True, capture_output=True)
        found = json.loads(Path(file.name).read_text())["results"]
    return {
        name: {"wall": row["median"], "cpu": row["user"] + row["system"]}
        for name, row in zip(COMMANDS, found, strict=True)
    }


def _results(ratios: Mapping[str, Mapping[str, float]], rounds: list[Times]) -> dict[str, object]:
    asked = subprocess.run(["hyperfine", "--version"], capture_output=True, text=True, check=True)
    return {
        "machine": "2 cores, no GPU, shared with other programs",
        "python": python_version(),
        "tool": asked.stdout.strip(),
        "libraries": {name: version(name) for name in ("networkx", "jinja2", "pydantic", "click", "rich")},
        "rounds": ROUNDS,
        "runs_a_round": RUNS,
        "most": MOST,
        "ratios": ratios,
        "median_cpu_seconds": {
            name: round(median(one[name]["cpu"] for one in rounds), 4) for name in COMMANDS
        },
    }


if __name__ == "__main__":
    main()
