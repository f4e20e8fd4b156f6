"""Files that start several processes: what a shell, YAML, JSON and accelerate read in them, whatever a name holds."""

import json
import os
import shutil
import subprocess

import pytest

from recipes.plan import Data, Full, Layout, Model, Plan, Predicted, Schedule
from recipes.write import LAUNCHES, launch

HOSTILE = ["x; touch owned", "$(touch owned)", "`touch owned`", "a'b\"c", "-x --help", "名前 é", "*"]


def plan(name="run-1", **layout):
    rows = {"train": "t", "train_sha256": "0" * 64, "held_out": "h", "held_out_sha256": "1" * 64}
    base = Plan(
        name="run-1",
        model=Model(id="base"),
        adaptation=Full(),
        data=Data(**rows, length_tokens=64),
        schedule=Schedule(epochs=1.0, micro_batch_tokens=64, learning_rate=1e-3, accumulation=2),
        predicted=Predicted(peak_bytes=1, seconds_high=3600.0),
    )
    wanted = {"processes": 8, "nodes": 2, "sharding": "fsdp2", **layout}
    return base.model_copy(update={"name": name, "layout": Layout(**wanted)})


def started(tmp_path, target, name, file, **environment):
    """Run a launch file with stubs that write down their arguments, one a line; the lines of each."""
    stubs = tmp_path / "bin"
    stubs.mkdir(exist_ok=True)
    for tool, body in {
        "torchrun": 'printf "%s\\n" "$@" > torchrun.said',
        "accelerate": 'printf "%s\\n" "$@" > accelerate.said',
        "scontrol": "echo first; echo second",
        "srun": 'shift; SLURM_NODEID=1 SLURM_NNODES=2 exec "$@"',
    }.items():
        (stubs / tool).write_text(f"#!/usr/bin/env bash\n{body}\n", encoding="utf-8")
        (stubs / tool).chmod(0o755)
    (tmp_path / file).write_text(launch(target, plan(name))[file], encoding="utf-8")
    done = subprocess.run(
        [shutil.which("bash"), str(tmp_path / file)],
        cwd=tmp_path,
        env={"PATH": f"{stubs}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in tmp_path.glob("*.said")}
    return done, said


@pytest.mark.parametrize("name", ["run-1", *HOSTILE])
@pytest.mark.parametrize("target", ["torchrun", "slurm", "accelerate"])
def test_every_shell_file_parses_whatever_the_name(tmp_path, target, name):
    for file, text in launch(target, plan(name)).items():
        (tmp_path / file).write_text(text, encoding="utf-8")
        if not file.endswith(".yaml"):
            subprocess.run([shutil.which("bash"), "-n", str(tmp_path / file)], check=True, timeout=60)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    ("target", "file", "tool"),
    [
        ("torchrun", "launch.sh", "torchrun"),
        ("slurm", "train.sbatch", "torchrun"),
        ("accelerate", "launch.sh", "accelerate"),
    ],
)
def test_a_name_is_one_word_and_never_a_command(tmp_path, target, file, tool, name):
    given = {"MASTER_ADDR": "first", "NODE_RANK": "1"}
    slurm = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NNODES": "2"}
    done, said = started(tmp_path, target, name, file, **(slurm if target == "slurm" else given))

    assert done.returncode == 0, done.stderr
    assert f"runs/{name}" in said[tool]
    assert not (tmp_path / "owned").exists()


def test_each_computer_gets_its_number_and_the_first_one_s_name(tmp_path):
    done, said = started(
        tmp_path,
        "slurm",
        "run-1",
        "train.sbatch",
        SLURM_SUBMIT_DIR=str(tmp_path),
        SLURM_JOB_NODELIST="n[1-2]",
    )

    assert done.returncode == 0, done.stderr
    assert {"--nnodes=2", "--nproc-per-node=4", "--node-rank=1", "--master-addr=first"} <= set(
        said["torchrun"]
    )


def test_a_run_that_is_there_goes_on(tmp_path):
    (tmp_path / "runs" / "run-1" / "checkpoints").mkdir(parents=True)
    _, said = started(tmp_path, "torchrun", "run-1", "launch.sh", MASTER_ADDR="first", NODE_RANK="0")

    assert said["torchrun"][-1] == "--resume"


def test_a_computer_without_a_number_is_told_what_is_missing(tmp_path):
    done, said = started(tmp_path, "torchrun", "run-1", "launch.sh", MASTER_ADDR="first")

    assert done.returncode != 0
    assert "NODE_RANK: which computer is this?" in done.stderr
    assert not said


def test_directives_of_slurm_stand_before_the_first_command_and_hold_no_variable():
    lines = launch("slurm", plan())["train.sbatch"].splitlines()
    directives = [line for line in lines if line.startswith("#SBATCH")]
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))

    assert lines[0] == "#!/usr/bin/env bash"
    assert all(lines.index(directive) < first for directive in directives)
    assert all("$" not in directive and directive.startswith("#SBATCH --") for directive in directives)
    assert {"#SBATCH --nodes=2", "#SBATCH --gpus-per-node=4", "#SBATCH --time=105"} <= set(directives)


@pytest.mark.parametrize("target", ["torchrun", "slurm", "accelerate"])
def test_a_line_break_in_a_name_is_refused(target):
    with pytest.raises(ValueError, match="not a word for a shell"):
        launch(target, plan("a\n#SBATCH --uid=0"))


@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_accelerate_reads_its_configuration(tmp_path, sharding):
    config = pytest.importorskip("accelerate.commands.config.config_args")
    parser = pytest.importorskip("accelerate.commands.launch").launch_command_parser()
    path = tmp_path / "accelerate.yaml"
    path.write_text(launch("accelerate", plan(sharding=sharding))["accelerate.yaml"], encoding="utf-8")
    found = config.ClusterConfig.from_yaml_file(path)
    known = {action.dest for action in parser._actions}

    assert (found.num_processes, found.num_machines, found.mixed_precision) == (8, 2, "no")
    assert found.distributed_type == ("FSDP" if sharding == "fsdp2" else "MULTI_GPU")
    assert set(found.fsdp_config) <= known


@pytest.mark.parametrize(("sharding", "stage"), [("zero2", 2), ("zero3", 3)])
def test_the_settings_of_deepspeed_are_numbers_that_agree(sharding, stage):
    found = json.loads(launch("deepspeed", plan(sharding=sharding))["deepspeed.json"])

    assert found["zero_optimization"]["stage"] == stage
    assert (
        found["train_batch_size"]
        == found["train_micro_batch_size_per_gpu"] * found["gradient_accumulation_steps"] * 8
    )
    assert "auto" not in json.dumps(found)


def test_every_target_has_its_files():
    assert {target: set(launch(target, plan(sharding="zero2"))) for target in LAUNCHES} == {
        target: set(files) for target, files in LAUNCHES.items()
    }
