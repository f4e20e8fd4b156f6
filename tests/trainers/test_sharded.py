"""FSDP2 in two processes on a CPU: what one process learns, from parts; and the way back."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import two_ranks
from transformers import AutoModelForCausalLM

from recipes.plan import Layout
from recipes.write import write
from trainers.engine import sharded
from trainers.engine.accelerated import Accelerated
from trainers.errors import WrongLaunch
from trainers.loop import Learner

PATIENCE_SECONDS = 240
CLOSE = {"full": 1e-5, "full16": 2e-2, "last": 1e-5, "lora": 2e-3, "qlora": 2e-3}
"""Sums are made in another order: bfloat16 rounds each of them to 8 bits, and a full step moves by that."""


@pytest.fixture(scope="module")
def place(tmp_path_factory, base_files):
    """The directory of the recipes, and of what both layouts saw."""
    home = tmp_path_factory.mktemp("sharded")
    (home / "base").symlink_to(base_files, target_is_directory=True)
    return home


@pytest.fixture(scope="module")
def one(place):
    """One process: its steps, its answers; its checkpoints lie where two go on from them."""
    engine = Accelerated(Layout(device="cpu", threads=1))
    seen = {}
    for case in two_ranks.CASES:
        plan = planned(place, case, 1)
        (place / f"{case}.toml").write_text(write(planned(place, case, 2), {}), encoding="utf-8")
        ready = two_ranks.equipped(plan, place, engine)
        steps = two_ranks.learned(plan, place, ready, engine, place / case / "one")
        seen[case] = {"steps": steps, "said": two_ranks.answers(plan, place, ready, engine)}
    return seen


@pytest.fixture(scope="module")
def two(place, one):
    """Two processes, which begin their second half from the checkpoint of one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, two_ranks.__file__, str(place)]
    both = [
        subprocess.Popen(
            words,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=PATIENCE_SECONDS)[0].decode() for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], said[0][-2000:] + said[1][-2000:]
    return json.loads((place / "seen.json").read_text())


def planned(home, case, processes):
    """The plan of a case: as many micro-batches a step, whatever the number of processes."""
    adaptation, dtype = two_ranks.CASES[case]
    plan = tiny.plan(home, adaptation=adaptation, max_steps=two_ranks.STEPS, accumulation=4 // processes)
    layout = Layout(processes=processes, device="cpu", threads=1, sharding="fsdp2")
    model = plan.model.model_copy(update={"dtype": dtype})
    return plan.model_copy(update={"layout": layout, "model": model})


@pytest.mark.parametrize("case", two_ranks.CASES)
def test_two_processes_with_parts_learn_what_one_learns(one, two, case):
    losses, norms = zip(*one[case]["steps"], strict=True)
    found_losses, found_norms = zip(*two[case]["steps"], strict=True)

    assert two[case]["divided"] == 3  # two blocks and what stands around them: not DDP
    assert two[case]["part"] == 0.5
    assert two[case]["path"] == "packed_nll"
    assert found_losses == pytest.approx(losses, rel=CLOSE[case])
    assert found_norms == pytest.approx(norms, rel=CLOSE[case] * 5)


@pytest.mark.parametrize("case", two_ranks.CASES)
def test_a_checkpoint_of_one_process_goes_on_in_two(one, two, case):
    losses = [loss for loss, _ in one[case]["steps"][two_ranks.HALF :]]

    assert [loss for loss, _ in two[case]["resumed"]] == pytest.approx(losses, rel=CLOSE[case])


@pytest.mark.parametrize("case", two_ranks.CASES)
def test_a_checkpoint_of_two_processes_goes_on_in_one(place, two, case, tmp_path):
    engine = Accelerated(Layout(device="cpu", threads=1))
    plan = planned(place, case, 1)
    found = two_ranks.resumed(plan, place, engine, place / case / "two", tmp_path)
    losses = [loss for loss, _ in two[case]["steps"][two_ranks.HALF :]]

    assert [loss for loss, _ in found] == pytest.approx(losses, rel=CLOSE[case])


@pytest.mark.parametrize("case", two_ranks.CASES)
def test_processes_with_parts_say_together_what_one_says(one, two, case):
    said, nll = two[case]["said"]

    assert len(said) == len(one[case]["said"][0])
    assert nll == pytest.approx(one[case]["said"][1], rel=CLOSE[case] * 5)


def test_a_disk_that_is_full_ends_all_processes_with_one_reason(place, two):
    ended = [(place / f"ended-{rank}").read_text() for rank in range(2)]

    assert ended == ["SaveFailed 4", "Followed 4"]
    assert not list((place / "disk").iterdir())


def test_parts_are_whole_again_in_what_is_saved(place, two):
    saved = AutoModelForCausalLM.from_pretrained(place / "full" / "output")
    adapter = json.loads((place / "lora" / "output" / "adapter_config.json").read_text())

    assert sum(weight.numel() for weight in saved.parameters()) > 100_000
    assert adapter["peft_type"] == "LORA"


def test_weights_of_two_types_in_one_block_are_refused_by_name(base_files):
    model = AutoModelForCausalLM.from_pretrained(base_files)
    model.model.layers[0].input_layernorm.double()

    with pytest.raises(WrongLaunch, match="float32, float64"):
        sharded._check_types(Learner(model, lambda _: None))


def test_one_process_is_not_divided_whatever_the_recipe_says(base_files):
    engine = Accelerated(Layout(device="cpu", threads=1, sharding="fsdp2"))

    assert not engine.divides_weights
