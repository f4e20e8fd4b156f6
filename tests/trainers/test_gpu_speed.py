"""The benchmark for a GPU runs from end to end on small shapes, so that a GPU's time is not spent on its mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
IN_ONE_PROCESS = """
import sys, gpu_speed
gpu_speed.TRAINERS = ("ours", "HF flattened", "nobody", "Unsloth")
gpu_speed.NEEDS = {"Unsloth": "a_package_that_nobody_has"}
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

    waiting = {"no waiting inside a step", "what the kernel takes for itself", "compiled blocks"}
    assert {name: case.get("reason") for name, case in questions.items() if not case["ok"]} == dict.fromkeys(
        waiting, "needs a CUDA device"
    )
    assert ours["ok"] and hf["ok"]
    assert ours["tokens_per_second"] > 0
    assert ours["predicted"]["dry_run_gib"] == pytest.approx(ours["predicted"]["closed_form_gib"], rel=0.15)
    assert {case["trainer"] for case in races} == {"ours", "HF flattened", "nobody"}
    assert (races[-1]["method"], races[-1]["ok"]) == ("dora", True)
    assert "1b dpo" in found["not_asked"]
    assert (nobody["ok"], "nobody is called" in nobody["reason"]) == (False, True)
    assert found["versions"]["torch"]


def test_what_a_peer_reads_is_counted_where_its_model_is_called(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from gpu_speed import Tokens

    class Reader(torch.nn.Module):
        def forward(self, input_ids, attention_mask=None):
            return input_ids

    model = Reader()
    tokens = Tokens(model)
    model(input_ids=torch.ones(1, 7))
    model(input_ids=torch.ones(2, 3), attention_mask=torch.tensor([[1, 1, 1], [1, 0, 0]]))
    model(torch.ones(1, 5), attention_mask=torch.ones(1, 1, 5, 5))  # a mask of who sees whom, of a packed row

    assert (tokens.calls, tokens.between(0, 3), tokens.between(1, 2)) == (3, 16, 4)
