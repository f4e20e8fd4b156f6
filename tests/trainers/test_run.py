"""Whole runs: from a recipe to a report, and every way out of it."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny
import torch
from peft import PeftModel

from recipes.exits import Exit
from recipes.plan import Full, LastLayers, Lora, Named, Probe
from recipes.report import Event, Report
from recipes.write import write
from trainers.__main__ import main
from trainers.checkpoints import protocol, storage
from trainers.run import Files, equip, session, story, train
from trainers.run.control import LOOK_SECONDS
from trainers.run.directory import held

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # peft on new transformers


def go(home, plan=None, *, resume=False, accept=False, run="run"):
    recipe = tiny.write_recipe(home, plan or tiny.plan(home))
    return train(recipe, home / run, resume=resume, accept_changes=accept)


def events(home, run="run"):
    found = [json.loads(line) for line in (home / run / "events.jsonl").read_bytes().splitlines()]

    assert [event["seq"] for event in found] == list(range(len(found)))
    assert all(Event.model_validate(event) for event in found)
    return found


def last(home):
    return events(home)[-1]


def losses(home, run="run"):
    return {event["step"]: event["loss"] for event in events(home, run) if event["type"] == "step"}


def report(home, run="run"):
    return Report.model_validate_json((home / run / "report.json").read_bytes())


def weights(home, run="run"):
    return (home / run / "output/adapter_model.safetensors").read_bytes()


@pytest.fixture
def at_step(monkeypatch):
    """Do something, once, right after a step was told."""

    def plant(number, deed):
        real, done = session._tell, []

        def tell(course, step, progress):
            real(course, step, progress)
            if step.number == number and not done:
                done.append(number)
                deed()

        monkeypatch.setattr(session, "_tell", tell)

    return plant


@pytest.mark.parametrize(
    "adaptation", [Lora(rank=4, alpha=8.0), Lora(base="nf4", rank=4), LastLayers(layers=1), Full()],
    ids=["lora", "qlora", "last_layers", "full"],
)  # fmt: skip
def test_a_recipe_becomes_a_report_and_a_model_that_loads(home, adaptation):
    code = go(home, tiny.plan(home, adaptation=adaptation, epochs=6.0, learning_rate=1e-2))
    said, receipt = events(home), report(home)
    phases = [event["name"] for event in said if event["type"] == "phase"]

    assert code == Exit.OK
    assert phases == ["import", "load", "tokenize", "evaluate", "train", "evaluate", "save"]
    assert (said[0]["type"], said[-1]["type"], said[-1]["exit"]) == ("start", "done", 0)
    assert [arm.name for arm in receipt.arms] == ["base", "tuned"]
    assert receipt.training.last_loss < receipt.training.first_loss
    assert receipt.training.memory.measured_bytes > 0
    assert receipt.training.steps == max(losses(home))
    assert (home / "run/output/tokenizer.json").is_file()
    assert (home / "run/recipe.toml").read_text() == (home / "recipe.toml").read_text()


def test_the_saved_adapter_scores_in_plain_peft_what_the_report_says(home):
    go(home, tiny.plan(home, epochs=4.0, learning_rate=1e-2))
    from transformers import AutoModelForCausalLM

    from trainers import data

    base = AutoModelForCausalLM.from_pretrained(home / "base")
    model = PeftModel.from_pretrained(base, home / "run/output").eval()
    total, count = 0.0, 0
    for row in tiny.rows(4, 90):
        example = data.masked(tiny.tokenizer(), row)
        labels = [i if t else -100 for i, t in zip(example.ids, example.trained, strict=True)]
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([example.ids]), labels=torch.tensor([labels])).loss
        total, count = total + float(loss) * sum(example.trained), count + sum(example.trained)

    assert report(home).training.held_out_loss == pytest.approx(total / count, rel=1e-5)


def test_a_stop_wish_saves_the_step_and_a_resume_ends_bit_for_bit_the_same(home, at_step):
    go(home, run="whole")
    at_step(3, (home / "run/control/stop").touch)
    stopped = go(home)
    ending = last(home)
    resumed = go(home, resume=True)

    assert stopped == Exit.INTERRUPTED
    assert (ending["type"], ending["exit"], ending["step"], ending["reason"]) == ("stopped", 130, 3, "stop")
    assert not (home / "run/control/stop").exists()
    assert resumed == Exit.OK
    assert losses(home) == losses(home, "whole")
    assert weights(home) == weights(home, "whole")


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_step_and_gives_its_exit_code(home, at_step, number, code):
    at_step(3, lambda: os.kill(os.getpid(), number))

    assert go(home) == code
    assert (last(home)["type"], last(home)["exit"], last(home)["reason"]) == ("stopped", code, number.name)
    assert protocol.newest(home / "run/checkpoints").checkpoint.progress.step == 3


def test_a_second_interrupt_ends_at_once_and_what_was_saved_stays(home, at_step):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(3, twice)

    assert go(home) == Exit.INTERRUPTED
    assert protocol.newest(home / "run/checkpoints").checkpoint.progress.step == 2


def test_a_pause_lasts_until_its_file_is_gone(home, at_step):
    pause = home / "run/control/pause"

    def hold():
        pause.touch()
        threading.Timer(3 * LOOK_SECONDS, pause.unlink).start()

    at_step(2, hold)
    code = go(home)
    kinds = [event["type"] for event in events(home)]

    assert code == Exit.OK
    assert kinds.index("paused") + 1 == kinds.index("resumed")


def test_a_wish_to_evaluate_is_obeyed_once(home, at_step):
    at_step(3, (home / "run/control/evaluate").touch)
    go(home)
    looks = [event for event in events(home) if event["type"] == "eval" and "step" in event]

    assert [look["step"] for look in looks] == [3]
    assert looks[0]["metrics"]["held_out_loss"] > 0


def test_looking_at_held_out_rows_changes_no_weight(home):
    plan = tiny.plan(home, adaptation=Lora(rank=4, dropout=0.2), evaluate_every_steps=1)
    go(home, plan)
    go(home, tiny.plan(home, adaptation=Lora(rank=4, dropout=0.2)), run="other")

    assert weights(home) == weights(home, "other")


def test_the_arms_without_training_are_judged_once(home, at_step, monkeypatch):
    at_step(3, (home / "run/control/stop").touch)
    go(home)
    kept = json.loads((home / "run/baseline.json").read_text())["arms"]
    judged, real = [], story.judge
    monkeypatch.setattr(story, "judge", lambda *words: (judged.append(words[4]), real(*words))[1])
    go(home, resume=True)

    assert judged == [("tuned",)]
    assert [arm["arm"]["name"] for arm in kept] == ["base"]


def test_a_resume_of_a_finished_run_says_done_and_touches_nothing(home):
    go(home)
    before = (home / "run/report.json").stat().st_mtime_ns

    assert go(home, resume=True) == Exit.OK
    assert last(home)["type"] == "done"
    assert (home / "run/report.json").stat().st_mtime_ns == before


def test_a_directory_of_another_run_is_refused_without_resume(home, capsys):
    go(home)
    told = (home / "run/events.jsonl").read_bytes()

    assert main(["run", str(home / "recipe.toml"), "--run", str(home / "run")]) == Exit.USAGE
    assert "holds another run" in capsys.readouterr().err
    assert (home / "run/events.jsonl").read_bytes() == told


def test_a_directory_with_foreign_files_is_refused_and_left_alone(home, capsys):
    (home / "run").mkdir()
    (home / "run/thesis.tex").write_text("years of work")

    assert (
        main(["run", str(tiny.write_recipe(home, tiny.plan(home))), "--run", str(home / "run")]) == Exit.USAGE
    )
    assert "thesis.tex" in capsys.readouterr().err


def test_a_run_that_is_held_is_busy_and_its_holder_is_named(home, capsys):
    recipe = tiny.write_recipe(home, tiny.plan(home))
    with held(Files(home / "run")):
        code = main(["run", str(recipe), "--run", str(home / "run")])

    assert code == Exit.BUSY
    assert "another process holds this run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, named",
    [
        ({"learning_rate": 2e-3}, "schedule.learning_rate: 0.001 -> 0.002"),
        ({"train": tiny.rows(23)}, "data.train_sha256"),
        ({"adaptation": Lora(rank=4, alpha=9.0)}, "adaptation.alpha: 8.0 -> 9.0"),
    ],
)
def test_a_resume_with_something_else_is_refused_by_name_and_goes_on_only_if_accepted(
    home, at_step, change, named
):
    at_step(3, (home / "run/control/stop").touch)
    go(home)
    refused = go(home, tiny.plan(home, **change), resume=True)
    said = last(home)
    accepted = go(home, tiny.plan(home, **change), resume=True, accept=True)

    assert (refused, said["exit"]) == (Exit.USAGE, 2)
    assert named in said["msg"]
    assert accepted == Exit.OK
    assert any(
        named in change
        for event in events(home)
        if event["type"] == "changes_accepted"
        for change in event["changes"]
    )


def test_a_resume_on_another_base_is_refused(home, at_step):
    at_step(3, (home / "run/control/stop").touch)
    go(home)
    (home / "base").unlink()
    tiny.write_model(home / "base", tiny.model(seed=1))

    assert go(home, resume=True) == Exit.USAGE
    assert "base model: " in last(home)["msg"]


def test_rows_that_the_recipe_was_not_written_for_are_refused(home):
    plan = tiny.plan(home)
    tiny.write_rows(home / "train.jsonl", tiny.rows(25))

    assert go(home, plan) == Exit.DATASET
    assert "not the rows that the recipe was written for" in last(home)["msg"]


def test_a_row_that_cannot_be_trained_ends_the_run_with_its_place(home):
    rows = [*tiny.rows(5), tiny.row("hi", "ho", line=6, train=[None, False])]

    assert go(home, tiny.plan(home, train=rows)) == Exit.DATASET
    assert last(home)["places"] == ["data.jsonl:6: no token of it would be trained"]
    assert last(home)["msgid"] == "{count} row(s) cannot be trained"


def test_a_hurt_checkpoint_is_skipped_and_the_run_ends_the_same(home, at_step):
    go(home, run="whole")
    at_step(5, (home / "run/control/stop").touch)
    go(home)
    newest = protocol.newest(home / "run/checkpoints").checkpoint.path
    (newest / "optimizer-00001.safetensors").write_bytes(b"rot")
    code = go(home, resume=True)

    assert code == Exit.OK
    assert any(event["type"] == "warn" and event["code"] == "R0202" for event in events(home))
    assert weights(home) == weights(home, "whole")


def test_when_no_checkpoint_is_whole_nothing_is_started_over_silently(home, at_step):
    at_step(3, (home / "run/control/stop").touch)
    go(home)
    for path in (home / "run/checkpoints").iterdir():
        (path / "MANIFEST.json").unlink()

    assert go(home, resume=True) == Exit.ENVIRONMENT
    assert "no checkpoint is whole" in last(home)["msg"]


def test_a_full_disk_ends_the_run_without_a_lie_and_a_resume_goes_on(home, monkeypatch):
    go(home, run="whole")
    real, files = storage.write_file, []

    def write_file(path, blocks):
        files.append(path)
        if path.name == "MANIFEST.json" and "4-" in path.parent.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, blocks)

    with monkeypatch.context() as patch:
        patch.setattr(protocol, "write_file", write_file)
        code = go(home)
    said = events(home)
    saved = [event["step"] for event in said if event["type"] == "checkpoint"]
    resumed = go(home, resume=True)

    assert (code, said[-1]["code"], said[-1]["exit"]) == (Exit.ENVIRONMENT, "R0302", 4)
    assert "No space left on device" in said[-1]["msg"]
    assert saved == [2]
    assert resumed == Exit.OK
    assert weights(home) == weights(home, "whole")


def test_a_disk_that_fails_under_the_model_leaves_no_half_output(home, monkeypatch):
    from trainers.run import receipt

    def broken(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(receipt, "sync_tree", broken)
        code = go(home)

    assert code == Exit.ENVIRONMENT
    assert not (home / "run/output").exists()
    assert not (home / "run/report.json").exists()
    assert go(home, resume=True) == Exit.OK


def test_a_loss_that_is_not_a_number_is_exit_5_and_the_last_checkpoint_is_good(home, monkeypatch):
    real = equip.sft
    calls = []

    def spoiled(policy, batch):
        calls.append(batch)
        loss = real(policy, batch)
        return type(loss)(loss.total * float("nan"), loss.count) if len(calls) == 4 else loss

    monkeypatch.setattr(equip, "sft", spoiled)

    assert go(home) == Exit.GUARD
    assert last(home)["values"]["step"] == 4
    assert "data.jsonl:" in last(home)["values"]["rows"]
    assert protocol.newest(home / "run/checkpoints").checkpoint.progress.step == 2


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])  # fmt: skip
def test_running_out_of_memory_is_told_with_advice(home, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(equip, "sft", full)
    code = go(home)
    before, ending = events(home)[-2:]

    assert code == Exit.ENVIRONMENT
    assert (before["type"], ending["code"]) == ("oom", "T0402")
    assert "micro_batch_tokens" in ending["remedy"]


def test_a_fault_of_ours_is_a_crash_file_and_never_a_traceback(home, monkeypatch, capsys):
    monkeypatch.setattr(session, "equip", lambda *_: {}["our fault"])
    code = go(home)
    said = last(home)

    assert (code, said["code"]) == (Exit.BUG, "B0001")
    assert "our fault" in Path(said["crash_file"]).read_text()
    assert "Traceback" not in capsys.readouterr().err


def test_a_missing_extra_is_told_with_the_line_that_installs_it(home, monkeypatch, capsys):
    import trainers.run as running

    def absent(_):
        raise ModuleNotFoundError("No module named 'peft'", name="peft")

    monkeypatch.setattr(running, "import_module", absent)

    assert go(home) == Exit.ENVIRONMENT
    assert "pip install 'finetune-advisor[train]'" in capsys.readouterr().err


def test_a_micro_batch_that_is_shorter_than_a_row_may_be_is_an_error_of_the_recipe(home):
    assert go(home, tiny.plan(home, micro_batch_tokens=32)) == Exit.USAGE
    assert "schedule.micro_batch_tokens is 32" in last(home)["places"][0]


@pytest.mark.parametrize(
    "adaptation",
    [Lora(rank=5000), Lora(targets=("wrong_proj",)), LastLayers(layers=99), Named(patterns=("wrong.*",))],
    ids=lambda adaptation: adaptation.kind,
)
def test_what_an_adaptation_names_and_the_model_lacks_is_told_before_the_model_is_judged(home, adaptation):
    assert go(home, tiny.plan(home, adaptation=adaptation)) == Exit.USAGE
    assert "evaluate" not in [event.get("name") for event in events(home)]
    problem = last(home)["problems"][0]
    assert problem["msgid"].format(**problem["values"]) == last(home)["places"][0]


def test_a_recipe_with_an_unknown_key_ends_before_anything_is_made(home, capsys):
    recipe = tiny.write_recipe(home, tiny.plan(home))
    recipe.write_text(recipe.read_text().replace("epochs", "epoch"))

    assert main(["run", str(recipe), "--run", str(home / "run")]) == Exit.USAGE
    assert "schedule.epoch" in capsys.readouterr().err
    assert not (home / "run").exists()


def test_the_copy_in_the_run_directory_resumes_the_run_too(home, at_step):
    at_step(3, (home / "run/control/stop").touch)
    go(home)

    assert train(home / "run/recipe.toml", home / "run", resume=True, accept_changes=False) == Exit.OK


def test_measuring_judges_without_training(home):
    plan = tiny.plan(home)
    probe = Probe(
        model=plan.model,
        data=plan.data,
        evaluation=plan.evaluation.model_copy(update={"prompt": "be brief", "shots": 2}),
        layout=plan.layout,
    )
    (home / "probe.json").write_text(probe.model_dump_json(exclude_none=True))
    code = main(["measure", str(home / "probe.json"), "--run", str(home / "m")])
    receipt = report(home, "m")

    assert code == Exit.OK
    assert [arm.name for arm in receipt.arms] == ["base", "prompt", "few_shot"]
    assert (receipt.training, receipt.verdict) == (None, "not_trained")


def test_activations_that_are_computed_again_change_no_loss(home):
    go(home)
    go(home, tiny.plan(home, checkpointing=True), run="again")

    assert losses(home, "again") == pytest.approx(losses(home), rel=1e-6)


def test_by_hand_in_its_own_process_an_interrupt_saves_the_step(home):
    recipe = home / "recipe.toml"
    recipe.write_text(write(tiny.plan(home, epochs=200.0, save_every_steps=1000), {}))
    words = [sys.executable, "-m", "trainers", "run", str(recipe), "--run", str(home / "run")]
    with (home / "out").open("wb") as out:
        child = subprocess.Popen(words, stdout=out, stderr=out, cwd=ROOT, start_new_session=True)
        deadline = time.monotonic() + 120
        while (
            not (log := home / "run/events.jsonl").exists() or b'"step", "step": 3,' not in log.read_bytes()
        ):
            assert child.poll() is None, (home / "out").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        code = child.wait(60)
    saved = protocol.newest(home / "run/checkpoints").checkpoint.progress.step

    assert code == 130
    assert last(home)["step"] == saved >= 3
    assert b"Traceback" not in (home / "out").read_bytes()
