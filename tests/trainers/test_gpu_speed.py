"""The benchmark for a GPU runs from end to end on small shapes, so that a GPU's time is not spent on its mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
IN_ONE_PROCESS = """
import sys, gpu_speed
gpu_speed.TRAINERS = ("ours", "HF flattened", "nobody")
gpu_speed.apart = lambda case, asked: gpu_speed.one(case, asked.peak_tflops, None)
sys.argv[0] = "gpu_speed.py"
gpu_speed.main()
"""


def test_the_toy_answers_every_question_and_one_failure_does_not_lose_the_rest(tmp_path):
    out = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS, "--toy", "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        cwd=BENCHMARKS,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-1000:]
    found = json.loads(out.read_text())
    questions = {case["question"]: case for case in found["cases"] if "question" in case}
    races = [case for case in found["cases"] if "trainer" in case]
    ours, hf, nobody = races[:3]

    assert {name for name, case in questions.items() if not case["ok"]} == {"no waiting inside a step"}
    assert questions["no waiting inside a step"]["ok"] is None  # not asked without a GPU
    assert ours["ok"] and hf["ok"]
    assert ours["tokens_per_second"] > 0
    assert (nobody["ok"], "nobody is called" in nobody["reason"]) == (False, True)
    assert found["versions"]["torch"]
