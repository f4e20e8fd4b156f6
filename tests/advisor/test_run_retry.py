"""A run that ran out of memory goes on with one knob turned down: by the estimator, written down, at most three times."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from textual.app import App

from advisor.catalog.models import local
from advisor.cli import main
from advisor.data import store
from advisor.data.stats import DataStats
from advisor.learn.lantern.base import base_dir
from advisor.plan import relief
from advisor.plan.relief import Shortage, relieved
from advisor.run import start
from advisor.text import use
from advisor.tui.screens.run import RunScreen
from recipes.plan import Data, Layout, Lora, Model, Plan, Predicted, Schedule
from recipes.read import read
from recipes.rows import Row, Source, Turn
from recipes.write import changed, write

FAKE = Path(__file__).with_name("fake_trainer.py")
STATS = DataStats(rows=1000, tokens=200_000, trained_tokens=60_000, longest_tokens=900, p99_tokens=512, mean_tokens=200.0, counted="tokenizer")  # fmt: skip


def rows(count):
    source = {"file": "train.jsonl", "format": "chat"}
    return [
        Row(
            kind="sft",
            messages=(Turn(role="user", content=f"say {n}"), Turn(role="assistant", content="ahoy " * 50)),
            source=Source(line=n, group=str(n), **source),
        )
        for n in range(1, count + 1)
    ]


def plan(**schedule):
    settings = {"epochs": 1.0, "micro_batch_tokens": 4096, "accumulation": 2, "learning_rate": 1e-3}
    return Plan(
        name="voice",
        model=Model(id=str(base_dir()), dtype="float32"),
        adaptation=Lora(rank=32),
        data=Data(
            train="train.jsonl", train_sha256="0" * 64, held_out="held.jsonl", held_out_sha256="1" * 64,
            length_tokens=900,
        ),
        schedule=Schedule(**{**settings, **schedule}),
        layout=Layout(device="cpu"),
        predicted=Predicted(peak_bytes=2**33),
    )  # fmt: skip


def short(made=None, **more):
    return Shortage(made or plan(), local(base_dir()), STATS, "cpu", step=4, **more)


@pytest.fixture
def place(tmp_path, monkeypatch):
    use("en")
    monkeypatch.chdir(tmp_path)
    store.write(Path("train.jsonl"), rows(200))
    Path("recipe.toml").write_text(write(plan(), {"schedule.epochs": "once is enough"}), encoding="utf-8")
    return tmp_path


@pytest.fixture
def train(place, monkeypatch, capsys):
    """Train with a trainer that runs out of memory `times`; exit code, stderr, how it was started."""

    def call(times, phase="train"):
        calls = []

        def command(recipe, run, **wishes):
            calls.append((Path(recipe).read_text(encoding="utf-8"), wishes))
            return [sys.executable, str(FAKE), "full", str(run), str(times), phase]

        monkeypatch.setattr(start, "command", command)
        with pytest.raises(SystemExit) as left:
            main(["train", "recipe.toml", "--run", "run"])
        return left.value.code, capsys.readouterr().err, calls

    return call


def test_the_run_goes_on_with_one_knob_lowered_and_the_reason_in_its_recipe(train):
    code, said, calls = train(1)
    (first, _), (second, wishes) = calls
    before, after = read(first), read(second)

    assert code == 0
    assert wishes["resume"] and wishes["accept_changes"]
    assert (before.schedule.micro_batch_tokens, before.schedule.accumulation) == (4096, 2)
    assert (after.schedule.micro_batch_tokens, after.schedule.accumulation) == (2048, 4)
    assert after.predicted.peak_bytes < 2**33
    assert "# once is enough\nepochs = 1.0" in second
    assert "# lowered after step 4, where memory ran out: by the estimate this saves" in second
    assert "out of memory: 8.0 MiB more were asked for; 16.0 GiB were in use, 4.0 MiB free" in said
    assert "going on with schedule.micro_batch_tokens = 2048 (4096)" in said


def test_three_times_and_then_it_ends_with_exit_4(train):
    code, said, calls = train(9)

    assert code == 4
    assert len(calls) == 4
    assert said.count("going on with schedule.") == 3
    assert "error[T0402]" in said
    assert read(calls[-1][0]).schedule.micro_batch_tokens == 900  # a row of full length


def test_where_no_knob_of_a_step_would_help_nothing_is_lowered(train):
    code, _, calls = train(1, phase="evaluate")

    assert (code, len(calls)) == (4, 1)


def test_a_recipe_whose_rows_are_gone_ends_as_it_did_and_says_so(train, place):
    (place / "train.jsonl").unlink()
    code, said, calls = train(1)

    assert (code, len(calls)) == (4, 1)
    assert "it cannot go on with less" in said
    assert "error[T0402]" in said


def test_the_first_knob_that_makes_up_for_what_was_missing_is_turned():
    little, much = relieved(short(lacking_bytes=1)), relieved(short(lacking_bytes=2**50))

    assert set(little.changes) == {"schedule.micro_batch_tokens", "schedule.accumulation"}
    assert little.changes["schedule.micro_batch_tokens"] == (4096, 2048)
    assert set(much.changes) != set(little.changes)  # nothing is enough: the one that saves most
    assert much.plan.predicted.peak_bytes < little.plan.predicted.peak_bytes


def test_a_checkpoint_is_never_asked_to_hold_other_weights(monkeypatch):
    ranks = [one for one in relief.CONCESSIONS if "adaptation.rank" in one.keys]
    monkeypatch.setattr(relief, "CONCESSIONS", tuple(ranks))

    assert relieved(short(saved=True)) is None
    assert relieved(short(saved=False)).changes["adaptation.rank"] == (32, 16)


def test_a_model_that_no_formula_describes_is_lowered_by_the_order_of_the_knobs():
    found = relieved(replace(short(lacking_bytes=2**50), shape=None))

    assert found.changes["schedule.micro_batch_tokens"] == (4096, 2048)
    assert found.reason.text == "lowered after step {step}, where memory ran out"


def test_changing_a_recipe_keeps_every_other_line():
    text = write(plan(), {"": "heading", "schedule.epochs": "why", "schedule.accumulation": "old"})
    found = changed(text, {"schedule.accumulation": 8}, "new\nreason")

    assert read(found) == read(text).model_copy(
        update={"schedule": read(text).schedule.model_copy(update={"accumulation": 8})}
    )
    assert found.replace("# new reason\naccumulation = 8", "# old\naccumulation = 2") == text


def test_a_default_that_nobody_wrote_down_is_added_to_its_table():
    text = "\n".join(line for line in write(plan(), {}).split("\n") if not line.startswith("checkpointing"))
    found = changed(text, {"schedule.checkpointing": True, "schedule.accumulation": 4}, "full")

    assert read(found).schedule.checkpointing
    assert read(found).schedule.accumulation == 4
    assert json.dumps(found).count("# full") == 2


def test_a_table_that_is_not_there_is_not_invented():
    with pytest.raises(KeyError):
        changed("[schedule]\nepochs = 1.0\n", {"predicted.peak_bytes": 1}, "")


async def test_the_run_screen_goes_on_with_less_by_itself(place, monkeypatch):
    monkeypatch.setattr(
        start, "command", lambda recipe, run, **_: [sys.executable, str(FAKE), "full", str(run), "1", "train"]
    )
    run = start.start(Path("recipe.toml"), run=place / "run")

    class Shown(App[None]):
        def on_mount(self):
            self.push_screen(RunScreen(run, tries=3))

    app = Shown(css_path=None)
    async with app.run_test(size=(100, 30)) as pilot:
        for _ in range(100):
            await pilot.pause(0.1)
            if app.screen.story.state == "done":
                break
        screen = app.screen

        assert screen.story.state == "done"
        assert screen.followed.offset > 0  # another attempt
    assert read((place / "run/recipe.toml").read_text(encoding="utf-8")).schedule.micro_batch_tokens == 2048
