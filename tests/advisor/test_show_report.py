"""The receipt on 80 columns."""

import pytest
from rich.cells import cell_len

from advisor.run import shelf
from advisor.show import report as show
from advisor.show import run as show_run
from advisor.show.columns import columns
from advisor.text import use
from recipes.report import Arm, Difference, Duration, Event, Memory, Rate, Report, Training

ESCAPE = "\x1b]0;evil\x07"


def rate(value):
    return Rate(value=value, low=max(0.0, value - 0.04), high=min(1.0, value + 0.04), n=100)


def arm(name, style, nll=1.234):
    scores = {"style": rate(style), "exact": rate(0.5), f"a_check_with_{ESCAPE}_and_a_long_name": rate(1.0)}
    return Arm(name=name, scores=scores, nll=rate(nll), prompt_tokens=129.25, seconds=12.5)


def difference(score="style", value=1.0):
    return Difference(
        score=score, against="few_shot", value=value, low=value - 0.05, high=value + 0.05, p_value=1e-30,
        test="mcnemar", detectable=0.08,
    )  # fmt: skip


TRAINING = Training(
    method="lora", steps=60, trained_tokens=10_000, tokens=20_000, rows=400, rows_dropped=2, first_loss=5.7,
    last_loss=0.01, held_out_loss=0.02, trainable_parameters=233_472, parameters=2_201_280,
    memory=Memory(quantity="cpu_peak_rss_delta", measured_bytes=300 * 2**20, predicted_bytes=320 * 2**20),
    duration=Duration(measured_seconds=7.1, predicted_low=5.0, predicted_high=12.0), output="output",
)  # fmt: skip


def report(**changes):
    fields = {
        "run": "voice", "model": "tiny", "primary": "style", "held_out_rows": 100,
        "arms": tuple(arm(name, style) for name, style in
                      [("base", 0.0), ("prompt", 0.0), ("few_shot", 0.02), ("context", 0.5), ("tuned", 1.0)]),
        "differences": (difference(), difference("nll", -1.2)), "verdict": "helped", "training": TRAINING,
        "versions": {}, "machine": {}, "finished": "2026-11-20T12:00:00Z",
    }  # fmt: skip
    return Report(**{**fields, **changes})


@pytest.fixture(autouse=True)
def english():
    use("en")


def test_the_report_fits_into_eighty_columns_and_is_plain_ascii():
    lines = show.text(report()).splitlines()

    assert max(map(cell_len, lines)) <= 80
    assert all(line.replace("␛", "").replace("␇", "").isascii() for line in lines)


def test_the_arms_stand_side_by_side_with_their_intervals_and_the_deciding_score_first():
    lines = show.text(report()).splitlines()
    heading = next(i for i, line in enumerate(lines) if line.split()[:1] == ["base"])

    assert lines[heading].split() == ["base", "prompt", "few-shot", "passage", "tuned"]
    assert lines[heading + 1].split("  ")[0] == "* style"
    assert lines[heading + 1].endswith("100 (96-100)")


def test_measured_stands_beside_predicted():
    text = show.text(report())

    assert "300.0 MiB measured, 320.0 MiB predicted" in text
    assert "7.1 s measured, 5.0 s to 12.0 s predicted" in text
    assert "2 row(s)" in text


def test_text_from_a_model_cannot_act_on_the_terminal():
    assert "\x1b" not in show.text(report())
    assert "\x07" not in show.text(report())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Training helped: style is 100 points above the best other arm (few-shot)."),
        ({"verdict": "hurt", "differences": (difference(value=-0.2),)}, "style is 20 points below"),
        ({"verdict": "cannot_tell", "differences": (difference(value=0.02),)}, "cannot tell"),
        ({"verdict": "not_trained", "differences": (), "training": None}, "Nothing was trained"),
        ({"primary": "nll"}, "the loss on held-out text fell by 1.200 nats a token"),
    ],
)
def test_the_verdict_is_one_sentence(changes, said):
    last = show.text(report(**changes)).splitlines()[-1]

    assert said in last


def test_a_report_of_plain_text_has_no_scores_and_still_a_table():
    bare = Arm(name="base", scores={}, nll=rate(2.0), prompt_tokens=0.0, seconds=1.0)

    text = show.text(
        report(arms=(bare,), differences=(), training=None, verdict="not_trained", primary="nll")
    )

    assert "* nats a token" in text


def test_columns_count_an_ideograph_as_two():
    lines = columns([("训练", "x"), ("ab", "y")])

    assert [cell_len(line) for line in lines] == [7, 7]


def event(kind, **fields):
    return Event(v=1, seq=0, t="", mono=0.0, type=kind, **fields)


def test_a_step_is_one_line_of_progress():
    seen = [event("start", steps=800), event("step", step=200, loss=0.943, tps=2903.4, eta=200.0)]
    progress = show_run.Progress()
    for one in seen:
        progress = show_run.advance(progress, one)

    assert show_run.line(progress) == "step 200/800  25 %  loss 0.943  2.9k tokens/s  3 min left"
    assert progress.share == 0.25


def test_a_phase_and_an_arm_are_named_and_cannot_break_the_line():
    progress = show_run.advance(show_run.Progress(), event("phase", name=f"late\n{ESCAPE}" + "x" * 200))
    line = show_run.line(progress)

    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 80


def test_a_failure_says_what_is_safe_and_what_to_do():
    lines = show_run.ending(
        "error", where="runs/a", step=613, saved_step=600, code="T0401", message=f"loss became NaN{ESCAPE}",
        places=["a.jsonl:7"], remedy="lower the learning rate",
    )  # fmt: skip

    assert lines[0].startswith("error[T0401]: loss became NaN")
    assert "\x1b" not in "".join(lines)
    assert "     = a.jsonl:7" in lines
    assert "     = the last good checkpoint is step 600" in lines
    assert lines[-1] == "help: lower the learning rate"


def test_a_stopped_run_says_how_to_go_on():
    lines = show_run.ending("stopped", where="runs/a", step=3, saved_step=None)

    assert lines[-1] == "go on with: advisor train --resume runs/a"


def test_a_template_from_a_file_is_filled_but_never_formatted():
    assert show_run.filled("{kind} is {name!r}", {"kind": "fact", "name": "x"}) == "fact is x"
    assert show_run.filled("{x:>9999999999}", {"x": "y"}) is None
    assert show_run.filled("{x.__class__}", {"x": "y"}) is None
    assert show_run.filled("", {}) is None


def test_a_finished_run_that_was_resumed_again_still_shows_its_steps(tmp_path):
    run = tmp_path / "voice"
    (run / "control").mkdir(parents=True)
    (run / "control" / "run.json").write_text('{"pid": 1, "process_start": 0}')
    (run / "report.json").write_text(report().model_dump_json())
    start = '{"v": 1, "seq": 0, "t": "2026-11-20T12:00:00Z", "mono": 1.0, "type": "start", "pid": 1, "steps": null}'
    done = '{"v": 1, "seq": 1, "t": "2026-11-20T12:00:01Z", "mono": 2.0, "type": "done", "exit": 0}'
    (run / "events.jsonl").write_text(f"{start}\n{done}\n")

    assert (shelf.entry(run).step, shelf.entry(run).steps) == (60, 60)
