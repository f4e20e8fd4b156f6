"""The benchmark for a GPU: all configurations are there, and it runs at toy size on a CPU."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_memory.py"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPT.parent))  # as where it is run
    spec = importlib.util.spec_from_file_location("gpu_memory", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_memory"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPT.parent))
    for name in ("gpu_memory", "preference"):
        sys.modules.pop(name, None)


def test_there_are_at_least_forty_configurations_and_each_is_a_valid_recipe(script):
    found = list(script.cases(toy=False))

    assert len({case.name for case in found}) == len(found) >= 40
    assert {case.plan.layout.device for case in found} == {"cuda"}


def test_at_least_eight_of_them_are_pairs_and_their_rows_hold_whole_ones(script):
    found = [case for case in script.cases(toy=False) if case.reference]

    assert len(found) >= 8
    assert {case.reference for case in found} == {"adapter_off", "copy", "precomputed"}
    assert all(case.tokens % (2 * case.length) == 0 for case in found)
    assert all(case.setup.pass_tokens == case.tokens for case in found)


def test_a_configuration_that_fails_is_told_and_ends_nothing(script, monkeypatch):
    def ended(*_, **__):
        return subprocess.CompletedProcess(
            [], 1, "", "x\ntorch.OutOfMemoryError: CUDA out of memory. Tried ..."
        )

    monkeypatch.setattr(script.subprocess, "run", ended)

    assert script._apart(0, toy=False)["status"] == "out of memory"


@pytest.mark.parametrize("only", ["toy lora", "dpo=copy"])
def test_at_toy_size_it_measures_beside_the_prediction(tmp_path, only):
    words = [sys.executable, str(SCRIPT), "--toy", "--only", only, "--first", "1", str(tmp_path / "out.json")]
    subprocess.run(words, check=True, capture_output=True)
    found = json.loads((tmp_path / "out.json").read_text())
    (row,) = found["rows"]

    assert only in row["name"]
    assert row["status"] == "ok"
    assert row["allocated"] > 0
    assert row["closed_form"] > 0
    assert found["versions"]["torch"]
