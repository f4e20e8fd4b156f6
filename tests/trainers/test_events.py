"""The log of a run: strict lines, whole lines, one sequence across restarts, a heartbeat in silence."""

import json
import os
import time

import pytest

from recipes.report import Event
from trainers.events import LINE_BYTES, Events, opened


def lines(path):
    def refuse(word):
        raise AssertionError(f"not strict JSON: {word}")

    return [json.loads(line, parse_constant=refuse) for line in path.read_bytes().splitlines()]


def rss():
    return 42


def test_every_line_is_a_strict_event_with_a_number_and_two_clocks(tmp_path):
    with opened(tmp_path / "e", rss=rss) as log:
        log.emit("phase", name="load")
        log.emit("step", step=1, loss=float("nan"), metrics={"a": float("inf"), "b": [1.5, float("-inf")]})
    first, second = lines(tmp_path / "e")

    assert [first["seq"], second["seq"]] == [0, 1]
    assert (second["loss"], second["metrics"]) == (None, {"a": None, "b": [1.5, None]})
    assert Event.model_validate(second).type == "step"
    assert second["mono"] >= first["mono"]
    assert first["t"].endswith("Z")


@pytest.mark.parametrize("text", ["x" * 50_000, "\u6f22" * 5_000, '"\\\n' * 5_000])
def test_no_line_is_longer_than_a_write_that_nobody_splits(tmp_path, text):
    with opened(tmp_path / "e", rss=rss) as log:
        log.emit("sample", prompt=text, text=text, more=[text] * 30)
    (line,) = (tmp_path / "e").read_bytes().splitlines(keepends=True)

    assert len(line) <= LINE_BYTES
    assert json.loads(line)["prompt"].endswith("...")


def test_one_line_is_one_write(tmp_path, monkeypatch):
    sizes, real = [], os.write
    monkeypatch.setattr(
        "trainers.events.os.write", lambda file, data: (sizes.append(len(data)), real(file, data))[1]
    )
    with opened(tmp_path / "e", rss=rss) as log:
        log.emit("phase", name="load")
        log.emit("phase", name="train")

    assert sizes == [len(line) for line in (tmp_path / "e").read_bytes().splitlines(keepends=True)]


def test_a_second_process_goes_on_counting_and_cuts_a_torn_line_off(tmp_path):
    path = tmp_path / "e"
    with opened(path, rss=rss) as log:
        log.emit("phase", name="load")
    with path.open("ab") as file:
        file.write(b'{"v": 1, "seq": 1, "t')
    with opened(path, rss=rss) as log:
        log.emit("phase", name="train")

    assert [(e["seq"], e["name"]) for e in lines(path)] == [(0, "load"), (1, "train")]


def test_silence_is_filled_with_heartbeats_that_say_where_the_run_is(tmp_path):
    log = Events(tmp_path / "e", rss=rss, beat_seconds=0.02)
    log.emit("phase", name="train")
    log.emit("step", step=7)
    deadline = time.monotonic() + 10
    while len(lines(tmp_path / "e")) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    log.close()
    beat = lines(tmp_path / "e")[3]

    assert (beat["type"], beat["step"], beat["phase"], beat["rss"]) == ("heartbeat", 7, "train", 42)


def test_after_the_log_is_closed_nothing_is_written(tmp_path):
    log = Events(tmp_path / "e", rss=rss, beat_seconds=0.01)
    log.emit("done", exit=0)
    log.close()
    size = (tmp_path / "e").stat().st_size
    time.sleep(0.05)

    assert (tmp_path / "e").stat().st_size == size
