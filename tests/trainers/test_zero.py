"""DeepSpeed in two processes on a CPU: what one process learns, with parts; and the way back."""

import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import tiny
import torch
import two_ranks
from safetensors.torch import load_file

from recipes.plan import Layout
from recipes.write import write
from trainers.engine.accelerated import Accelerated
from trainers.engine.begin import begin
from trainers.engine.zero import _check_types
from trainers.errors import MissingPackage, WrongLaunch

PATIENCE_SECONDS = 240
SHARDINGS = {"zero2": ("full", "full16", "lora", "qlora"), "zero3": ("full", "full16", "lora")}
CLOSE = {"full": 1e-5, "full16": 2e-2, "lora": 2e-3, "qlora": 2e-3}
"""Sums are made in another order: bfloat16 rounds each of them to 8 bits, and a full step moves by that."""
installed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
each_case = pytest.mark.parametrize(
    ("sharding", "case"), [(sharding, case) for sharding, cases in SHARDINGS.items() for case in cases]
)


@pytest.fixture(scope="module")
def place(tmp_path_factory, base_files):
    """A directory for each sharding, with its recipes and what was seen."""
    home = tmp_path_factory.mktemp("zero")
    for sharding in SHARDINGS:
        (home / sharding).mkdir()
        (home / sharding / "base").symlink_to(base_files, target_is_directory=True)
    return home


@pytest.fixture(scope="module")
def one(place):
    """One process: its steps, its answers; its checkpoints lie where two go on from them."""
    engine, seen, home = Accelerated(Layout(device="cpu", threads=1)), {}, place / "zero2"
    for case in SHARDINGS["zero2"]:
        plan = planned(home, case, 1, "none")
        ready = two_ranks.equipped(plan, home, engine)
        steps = two_ranks.learned(plan, home, ready, engine, home / case / "one")
        seen[case] = {"steps": steps, "said": two_ranks.answers(plan, home, ready, engine)}
    for case in SHARDINGS["zero3"]:
        (place / "zero3" / case).mkdir()
        (place / "zero3" / case / "one").symlink_to(home / case / "one", target_is_directory=True)
    return seen


@pytest.fixture(scope="module")
def two(place, one):
    """Two processes for each sharding, which train, and go on from the checkpoints of one and of themselves."""
    return {sharding: trained_by_two(place / sharding, sharding) for sharding in SHARDINGS}


def trained_by_two(home, sharding):
    """All cases of a sharding."""
    for case in SHARDINGS[sharding]:
        (home / f"{case}.toml").write_text(write(planned(home, case, 2, sharding), {}), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("two_zero_ranks.py")
    both = [
        subprocess.Popen(
            [sys.executable, str(script), str(home)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
                "OMP_NUM_THREADS": "1",
                "TORCH_EXTENSIONS_DIR": str(home / "extensions"),
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
    return json.loads((home / "seen.json").read_text())


def planned(home, case, processes, sharding):
    """The plan of a case: as many micro-batches a step, whatever the number of processes."""
    adaptation, dtype = two_ranks.CASES[case]
    plan = tiny.plan(home, adaptation=adaptation, max_steps=two_ranks.STEPS, accumulation=4 // processes)
    layout = Layout(processes=processes, device="cpu", threads=1, sharding=sharding)
    model = plan.model.model_copy(update={"dtype": dtype})
    return plan.model_copy(update={"layout": layout, "model": model})


def losses(steps):
    return [loss for loss, _ in steps]


@installed
@each_case
def test_two_processes_of_deepspeed_learn_what_one_learns(one, two, sharding, case):
    norms = [norm for _, norm in one[case]["steps"]]

    seen = two[sharding][case]

    assert (seen["engine"], f"zero{seen['stage']}") == ("DeepSpeedEngine", sharding)
    assert seen["path"] == "packed_nll"
    assert seen["share"] == pytest.approx(0.5, abs=0.01)
    assert (seen["left"] == 0) == (sharding == "zero3")  # of the blocks, between two forwards
    assert losses(seen["steps"]) == pytest.approx(losses(one[case]["steps"]), rel=CLOSE[case])
    assert [norm for _, norm in seen["steps"]] == pytest.approx(norms, rel=CLOSE[case] * 5)


@installed
@each_case
def test_deepspeed_goes_on_bit_by_bit(two, sharding, case):
    assert two[sharding][case]["of_two"] == two[sharding][case]["steps"][two_ranks.HALF :]


@installed
@each_case
def test_deepspeed_goes_on_from_one_process(one, two, sharding, case):
    found = losses(two[sharding][case]["of_one"])

    assert found == pytest.approx(losses(one[case]["steps"][two_ranks.HALF :]), rel=CLOSE[case])


@installed
@each_case
def test_one_process_goes_on_from_deepspeed(place, two, sharding, case, tmp_path):
    engine = Accelerated(Layout(device="cpu", threads=1))
    home = place / sharding
    plan = planned(home, case, 1, "none")
    found = two_ranks.resumed(plan, home, engine, home / case / "two", tmp_path)

    assert losses(found) == pytest.approx(
        losses(two[sharding][case]["steps"][two_ranks.HALF :]), rel=CLOSE[case]
    )


@installed
@each_case
def test_a_checkpoint_of_deepspeed_has_what_one_process_would_save(place, two, sharding, case):
    (own,) = (place / sharding / case / "one").glob("step-*/optimizer-00001.safetensors")
    (its,) = (place / sharding / case / "two").glob("step-*/optimizer-00001.safetensors")
    form = {name: (value.shape, value.dtype) for name, value in load_file(own).items()}

    assert {name: (value.shape, value.dtype) for name, value in load_file(its).items()} == form


@installed
@each_case
def test_what_deepspeed_trained_says_what_one_process_says(one, two, sharding, case):
    said, nll = two[sharding][case]["said"]

    assert len(said) == len(one[case]["said"][0])
    assert nll == pytest.approx(one[case]["said"][1], rel=CLOSE[case] * 5)


@installed
@pytest.mark.parametrize("sharding", SHARDINGS)
def test_parts_of_deepspeed_are_whole_in_what_is_saved(place, one, two, sharding):
    saved = load_file(place / sharding / "full" / "output" / "model.safetensors")
    (last,) = (place / sharding / "full" / "two").glob("step-*/weights-00001.safetensors")

    assert {name: value.shape for name, value in saved.items()} == {
        name: value.shape for name, value in load_file(last).items()
    }


@installed
@each_case
def test_a_loss_that_is_no_number_in_one_process_moves_nothing_in_any(two, sharding, case):
    assert two[sharding][case]["held"] == [two_ranks.HALF + 1, True]


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="deepspeed is installed")
def test_without_deepspeed_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(Accelerated, "__init__", lambda *_: None)
    monkeypatch.setattr(Accelerated, "device", torch.device("cpu"))

    with pytest.raises(MissingPackage, match="deepspeed") as raised:
        begin(Layout(processes=2, device="cpu", sharding="zero2"))
    assert raised.value.values["extra"] == "deepspeed"


def test_one_process_needs_no_deepspeed():
    assert type(begin(Layout(device="cpu", threads=1, sharding="zero2"))) is Accelerated


def test_weights_of_two_types_are_refused_before_they_are_divided():
    weights = [torch.nn.Parameter(torch.zeros(2, dtype=dtype)) for dtype in (torch.float32, torch.bfloat16)]

    with pytest.raises(WrongLaunch, match="bfloat16, float32"):
        _check_types(torch.optim.AdamW(weights))
