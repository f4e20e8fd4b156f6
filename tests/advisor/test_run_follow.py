"""Following a run by its file: torn lines, strange lines, hostile text, sudden death."""

import json
import threading
import time

import pytest

from advisor.cli import watch
from advisor.run.directory import Run
from advisor.run.follow import events, follow, last_attempt, outcome, parse, whole
from advisor.text import use
from recipes.exits import Exit


def line(seq, kind, **fields):
    head = {"v": 1, "seq": seq, "t": "2026-11-20T12:00:00Z", "mono": float(seq), "type": kind}
    return json.dumps({**head, **fields}) + "\n"


@pytest.fixture
def run(tmp_path):
    (tmp_path / "control").mkdir()
    return Run(tmp_path)


def written(run, *lines):
    run.events.write_bytes("".join(lines).encode())


def types(found):
    return [event.type for event in found]


def test_following_ends_with_the_outcome(run):
    written(run, line(0, "start", steps=1), line(1, "step", step=1), line(2, "done", exit=0), line(3, "step"))

    assert types(follow(run)) == ["start", "step", "done"]


def test_a_torn_last_line_is_not_an_event_yet(run):
    whole_line = line(1, "step", step=1)
    written(run, line(0, "start"), whole_line[:30])

    assert types(follow(run)) == ["start"]
    assert whole(run.events) == len(line(0, "start"))


def test_a_line_that_is_completed_later_is_read_once_and_whole(run, monkeypatch):
    monkeypatch.setattr("advisor.run.follow.alive", lambda _: True)
    first, second = line(0, "start"), line(1, "done", exit=0)
    written(run, first, second[:25])

    def complete():
        time.sleep(0.1)
        with run.events.open("ab") as file:
            file.write(second[25:].encode())

    writer = threading.Thread(target=complete)
    writer.start()
    found = types(follow(run, poll_s=0.01))
    writer.join()

    assert found == ["start", "done"]


@pytest.mark.parametrize(
    "strange",
    [
        b"\n",
        b"not json\n",
        b'{"v": 1, "seq": 1}\n',
        b"[1, 2]\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"v": 1, "seq": 1, "t": "", "mono": NaN, "type": "step"}\n',
        b'{"v": 1, "seq": 1, "t": "", "mono": 1.0, "type": "step", "step": ' + b"9" * 5000 + b"}\n",
        line(1, "a_type_of_next_year", text="x").encode(),
    ],
)
def test_a_line_that_we_do_not_know_is_skipped(run, strange):
    run.events.write_bytes(line(0, "start").encode() + strange + line(2, "done").encode())

    assert types(follow(run)) == ["start", "done"]


def test_a_line_without_an_end_is_not_kept_in_memory(run):
    run.events.write_bytes(b"x" * (3 * 2**20) + b"\n" + line(1, "done").encode())

    found = list(events(run.events))

    assert types(event for event, _ in found) == ["done"]
    assert found[0][1] == run.events.stat().st_size


def test_every_event_tells_where_to_go_on(run):
    written(run, line(0, "start"), "garbage\n", line(1, "step"), line(2, "done"))
    found = list(events(run.events))

    rest = types(event for event, _ in events(run.events, found[0][1]))

    assert rest == ["step", "done"]


def test_a_field_of_a_newer_writer_is_kept():
    event = parse(line(0, "step", step=3, colour="blue").encode())

    assert (event.number("step"), event.text("colour"), event.number("colour"), event.text("step")) == (
        3,
        "blue",
        None,
        "",
    )


def test_a_file_that_is_not_there_yet_has_no_events(run):
    assert list(follow(run)) == []
    assert whole(run.events) == 0


def test_the_outcome_of_an_error_has_what_a_person_needs(run):
    written(
        run,
        line(0, "start", steps=9),
        line(1, "checkpoint", step=4),
        line(2, "step", step=6),
        line(
            3,
            "error",
            exit=5,
            code="T0401",
            msg="loss became NaN",
            remedy="lower it",
            places=["a:7"],
            values={"a": 1},
        ),
    )

    found = outcome(run)

    assert (found.state, found.exit, found.step, found.saved_step) == ("error", Exit.GUARD, 6, 4)
    assert (found.code, found.message, found.places) == ("T0401", "loss became NaN", ("a:7",))


def test_what_is_wrong_in_a_recipe_is_said_in_the_readers_language(run):
    text = "adaptation.layers is {wanted}, and the model has {found} layers"
    problem = {"msgid": text, "values": {"wanted": 9, "found": 2}}
    places = [text.format(**problem["values"])]
    written(run, line(0, "error", exit=2, code="P0100", msg="x", places=places, problems=[problem]))
    use("zh")
    try:
        said = watch._places(outcome(run))
    finally:
        use("en")

    assert said != places
    assert "9" in said[0] and "2" in said[0]


@pytest.mark.parametrize("problems", ["x", [7], [{"msgid": 7, "values": []}], []])
def test_problems_that_are_none_leave_the_places_as_they_are(run, problems):
    written(run, line(0, "error", exit=2, code="P0100", msg="x", places=["a:7"], problems=problems))

    assert watch._places(outcome(run)) == ["a:7"]


def test_an_error_that_claims_success_is_not_believed(run):
    written(run, line(0, "error", exit=0, msg="x"))

    assert outcome(run).exit == Exit.BUG


def test_gaps_in_the_numbers_are_counted(run):
    written(run, line(0, "start"), line(3, "step", step=1), line(4, "done", exit=0))

    assert outcome(run).missing_lines == 2


def test_a_process_that_died_without_a_word_is_told_by_what_it_printed(run):
    written(run, line(0, "start", steps=9), line(1, "checkpoint", step=4))
    (run.path / "stdout.log").write_text("Segmentation fault\n")

    found = outcome(run)

    assert (found.state, found.exit, found.message, found.saved_step) == (
        "died",
        Exit.BUG,
        "Segmentation fault",
        4,
    )


def test_the_end_of_an_earlier_attempt_is_not_the_end_of_this_one(run):
    written(run, line(0, "start", pid=1), line(1, "checkpoint", step=4), line(2, "stopped", exit=130))
    resumed = Run(run.path, offset=whole(run.events))

    assert list(follow(resumed)) == []
    assert outcome(resumed).state == "died"
    assert outcome(resumed).saved_step == 4


def test_attaching_begins_with_the_last_attempt(run):
    first = line(0, "start", pid=1) + line(1, "stopped", exit=130)
    written(
        run, first, line(2, "start", pid=2), line(3, "phase", name="load"), line(4, "start", pid=2, steps=9)
    )

    assert last_attempt(run.events) == len(first)
