"""`advisor train`, `runs`, `measure` and `doctor` from outside, with a trainer without torch."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from advisor.cli import doctor, main
from advisor.run import start
from advisor.text import use
from recipes.plan import Data, Full, Model, Plan, Schedule
from recipes.report import Arm, Rate, Report
from recipes.write import write

FAKE = Path(__file__).with_name("fake_trainer.py")

PLAN = Plan(
    name="voice",
    model=Model(id="tiny"),
    adaptation=Full(),
    data=Data(
        train="train.jsonl",
        train_sha256="0" * 64,
        held_out="held.jsonl",
        held_out_sha256="1" * 64,
        length_tokens=64,
    ),
    schedule=Schedule(epochs=1.0, micro_batch_tokens=64, learning_rate=0.001),
)
RATE = Rate(value=0.5, low=0.4, high=0.6, n=100)
REPORT = Report(
    run="voice", model="tiny", primary="exact", held_out_rows=100, verdict="not_trained", versions={}, machine={},
    arms=(Arm(name="base", scores={"exact": RATE}, prompt_tokens=9.0, seconds=1.0),), finished="2026-11-20T12:00:00Z",
)  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Work in an empty folder that has one recipe, in English."""
    use("en")
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text(write(PLAN, {}), encoding="utf-8")
    Path("report.json").write_text(REPORT.model_dump_json(), encoding="utf-8")


@pytest.fixture
def fake(monkeypatch):
    calls = []

    def use_fake(scenario, *more):
        def command(recipe, run, **wishes):
            calls.append((recipe, run, wishes))
            return [sys.executable, str(FAKE), scenario, str(run), *more]

        monkeypatch.setattr(start, "command", command)
        return calls

    return use_fake


@pytest.fixture
def outliving(monkeypatch):
    """Keep what is started: here it outlives the command, but not the test."""
    kept = []

    def keep(*words, **wishes):
        kept.append(start.start(*words, **wishes))
        return kept[-1]

    monkeypatch.setattr("advisor.cli.train.start", keep)
    yield
    for run in kept:
        run.process.kill()
        run.process.wait()


@pytest.fixture
def advisor(capsys):
    """Call the command line; its exit code, stdout and stderr."""

    def call(*words):
        with pytest.raises(SystemExit) as left:
            main(words)
        said = capsys.readouterr()
        return left.value.code, said.out, said.err

    return call


def test_a_run_ends_with_its_report_on_stdout_and_progress_on_stderr(fake, advisor):
    fake("done", "report.json")

    code, out, err = advisor("train", "recipe.toml")

    assert code == 0
    assert "50 (40-60)" in out
    assert "Nothing was trained" in out
    assert "step 10/20" in err
    assert err.count("step ") <= 12
    assert "\x1b" not in out + err


def test_the_events_are_the_only_thing_on_stdout_with_json(fake, advisor):
    fake("done", "report.json")

    code, out, _ = advisor("train", "recipe.toml", "--json")
    kinds = [json.loads(line)["type"] for line in out.splitlines()]

    assert (code, kinds[0], kinds[-1]) == (0, "start", "done")
    assert out.isascii()
    assert "\x1b" not in out


def test_a_failed_run_has_the_trainers_exit_code_and_says_what_is_wrong(fake, advisor):
    fake("error")

    code, out, err = advisor("train", "recipe.toml")

    assert (code, out) == (5, "")
    assert "error[T0401]: loss became NaN" in err
    assert "a.jsonl:7" in err
    assert "\x1b" not in err


def test_a_trainer_that_dies_early_is_heard(fake, advisor):
    fake("early")

    code, _, err = advisor("train", "recipe.toml")

    assert code == 2
    assert "error[P0100]: the recipe is" in err
    assert "\x1b" not in err


def test_a_killed_trainer_leaves_what_is_safe_and_how_to_go_on(fake, advisor):
    fake("killed")

    code, _, err = advisor("train", "recipe.toml")

    assert code == 4
    assert "error[R0401]: the trainer was killed" in err
    assert "the last good checkpoint is step 2" in err
    assert "advisor train --resume runs/voice" in err


def test_resume_takes_a_recipe_a_directory_or_a_part_of_a_name(fake, advisor):
    calls = fake("done", "report.json")
    advisor("train", "recipe.toml")
    Path("runs/voice/recipe.toml").write_text(Path("recipe.toml").read_text())

    codes = [advisor("train", "--resume", name)[0] for name in ("recipe.toml", "runs/voice")]

    assert codes == [0, 0]
    assert [(str(recipe), str(run)) for recipe, run, _ in calls[1:]] == [
        ("recipe.toml", "runs/voice"),
        ("runs/voice/recipe.toml", "runs/voice"),
    ]
    assert all(wishes["resume"] for _, _, wishes in calls[1:])


def test_a_second_run_does_not_take_the_directory_of_the_first(fake, advisor):
    fake("done", "report.json")
    advisor("train", "recipe.toml")

    code, _, err = advisor("train", "recipe.toml")

    assert code == 4
    assert "another run" in err
    assert "--resume" in err


def test_a_dry_run_starts_and_writes_nothing(fake, advisor):
    calls = fake("done")

    code, out, _ = advisor("train", "recipe.toml", "-n")

    assert code == 0
    assert "runs/voice" in out
    assert calls == []
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (("train", "nothing.toml"), 2, "cannot be read"),
        (("train", "."), 2, "a directory, not a recipe"),
        (("train", "--resume", "."), 2, "there is no run"),
        (("runs", "show", "nothing"), 2, "there is no run"),
        (("measure", "--model", "x", "-o", "out"), 2, "not clear which rows"),
    ],
)
def test_a_mistake_is_said_with_a_remedy(advisor, words, exit_code, said):
    code, out, err = advisor(*words)

    assert (code, out) == (exit_code, "")
    assert said in err
    assert "help: " in err


def test_a_broken_recipe_is_refused_before_anything_is_made(advisor):
    Path("recipe.toml").write_text("schema_version = 1\nnome = 'x'\n")

    code, _, err = advisor("train", "recipe.toml")

    assert code == 2
    assert "nome" in err
    assert not Path("runs").exists()


def test_control_c_stops_the_run_saves_and_says_how_to_go_on():
    program = (
        "import sys, pathlib; from advisor.cli import main; from advisor.run import start\n"
        f"start.command = lambda recipe, run, **_: [sys.executable, {str(FAKE)!r}, 'patient', str(run)]\n"
        "main(['train', 'recipe.toml'])"
    )
    watcher = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(500):
            if (
                Path("runs/voice/events.jsonl").exists()
                and "step" in Path("runs/voice/events.jsonl").read_text()
            ):
                break
            time.sleep(0.02)
        time.sleep(0.2)
        os.kill(watcher.pid, signal.SIGINT)
        _, err = watcher.communicate(timeout=30)
    finally:
        watcher.kill()
        watcher.wait()

    assert watcher.returncode == 130
    assert "saving" in err
    assert "the last good checkpoint is step" in err
    assert "advisor train --resume runs/voice" in err


def test_a_detached_run_is_listed_stopped_and_removed(fake, advisor, outliving):
    fake("patient")
    code, out, _ = advisor("train", "recipe.toml", "--detach")
    assert code == 0
    assert "runs/voice" in out
    for _ in range(400):
        listed = json.loads(advisor("runs", "list", "--json")[1])["data"]
        if listed and listed[0]["step"]:
            break
        time.sleep(0.02)

    assert (listed[0]["name"], listed[0]["state"]) == ("voice", "running")
    assert advisor("runs", "rm", "voice", "--yes")[0] == 75
    assert advisor("runs", "stop", "voi")[0] == 0
    assert advisor("runs", "attach", "voice")[0] == 130
    assert "stopped" in advisor("runs", "show", "voice")[1]
    assert "stopped" in advisor("runs", "list")[1]
    for _ in range(400):
        code = advisor("runs", "rm", "voice", "--yes")[0]
        if code != 75:
            break
        time.sleep(0.02)
    assert code == 0
    assert not Path("runs/voice").exists()


def test_a_report_is_shown_again(fake, advisor):
    fake("done", "report.json")
    _, first, _ = advisor("train", "recipe.toml")

    code, again, _ = advisor("runs", "show", "voice")
    data = json.loads(advisor("runs", "show", "voice", "--json")[1])

    assert code == 0
    assert again.strip() in first
    assert (data["schema"], data["data"]["run"]) == ("advisor/runs-show/1", "voice")


def test_deleting_needs_a_yes(fake, advisor):
    fake("done", "report.json")
    advisor("train", "recipe.toml")

    code, _, err = advisor("runs", "rm", "voice")

    assert code == 2
    assert "--yes" in err
    assert Path("runs/voice").exists()


def test_measure_writes_rows_and_a_probe_and_runs_it(fake, advisor):
    calls = fake("done", "report.json")
    lines = [json.dumps({"prompt": f"How much is {i}?", "completion": f"{i} coins"}) for i in range(60)]
    Path("data.jsonl").write_text("\n".join(lines))

    code, out, _ = advisor(
        "measure",
        "--model",
        "some/model",
        "--data",
        "data.jsonl",
        "--prompt",
        "Be brief.",
        "--rows",
        "10",
        "-o",
        "out",
    )
    probe = json.loads(Path("out/probe.json").read_text())

    assert code == 0
    assert "50 (40-60)" in out
    assert [(str(recipe), str(run), wishes["measure"]) for recipe, run, wishes in calls] == [
        ("out/probe.json", "out/run", True)
    ]
    assert probe["evaluation"]["prompt"] == "Be brief."
    assert probe["evaluation"]["rows"] == 10
    assert probe["evaluation"]["primary"] == "exact"
    assert len(Path("out/train.jsonl").read_text().splitlines()) == 40


def test_the_doctor_says_what_is_installed(advisor):
    code, out, _ = advisor("doctor")
    data = json.loads(advisor("doctor", "--json")[1])["data"]

    assert code == 0
    assert "click" in out
    assert {package["name"] for package in data["packages"]} >= {"click", "pydantic", "torch"}
    assert data["can_train"] is True
    assert data["paths"]["runs"].endswith("runs")


@pytest.mark.parametrize(
    ("installed", "wanted", "state"),
    [
        ("2.13.0+cpu", ">=2.11,<2.14", "ok"),
        ("2.14", ">=2.11,<2.14", "new"),
        ("2.9.1", ">=2.11,<2.14", "old"),
        ("8.2.8", "==8.2.*", "ok"),
        ("8.3.0", "==8.2.*", "new"),
        ("1.0", "", "ok"),
    ],
)
def test_a_version_is_held_against_its_bounds(installed, wanted, state):
    assert doctor.fits(installed, wanted) == state
