"""Wrong inputs over all commands: a clear message, the right exit code, clean streams, and nothing that hangs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from advisor.cli import main, watch
from advisor.run import start
from advisor.run.directory import Run
from advisor.run.follow import outcome
from advisor.text import use

ESC = "\x1b]0;owned\x07\x1b[31m\u009b31m\u202e"
LONG = "n" * 300
RAW = os.fsdecode(b"raw\xff")
QWEN = "Qwen/Qwen3-8B"
GOOD = "".join(
    json.dumps({"instruction": f"say {i} in words", "output": f"it is {i}"}) + "\n" for i in range(300)
)
CONFIG = {
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
    "intermediate_size": 128, "vocab_size": 512, "max_position_embeddings": 256,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of things that nobody should name, and a few that are good."""
    root = tmp_path_factory.mktemp("hostile")
    files = {
        "ok.jsonl": GOOD, "empty.jsonl": "", "ffile": "x", "unknown.jsonl": '{"foo": 1}\n', "num.json": "5",
        "null.json": "null", "list.json": "[1]", "deep.json": "[" * 5000, "cut.json": '[{"instruction":',
        "nested.json": '{"n_labelled": {"a": 1}}', "nan.json": '{"vram_gb": NaN}',
        "big.json": '{"n_labelled": ' + "9" * 5000 + "}", "unknown.json": '{"no_such": 1}',
        "keys.toml": "format = 1\nfoo = 1\n", "newer.toml": "format = 999\n", "cut.toml": "a = [1,\n",
        "deep.toml": "a = " + "[" * 3000, "nan.toml": "a = nan\n", "int.toml": "a = " + "9" * 5000,
        "twice.csv": "a,a\n1,2\n", "x.pkl": "", "x.zip": "PK",
    }  # fmt: skip
    for name, text in files.items():
        (root / name).write_text(text, encoding="utf-8")
    (root / "binary.jsonl").write_bytes(bytes(range(256)) * 20)
    (root / "utf16.jsonl").write_bytes(GOOD.encode("utf-16"))
    (root / "folder").mkdir()
    (root / "folder" / "x").write_text("x", encoding="utf-8")
    (root / "loop").symlink_to("loop")
    for ending in ("jsonl", "json", "toml", "csv"):
        os.mkfifo(root / f"pipe.{ending}")
        (root / f"zero.{ending}").symlink_to("/dev/zero")
    models = {
        "no_config": None, "no_weights": CONFIG, "list": [], "pickle": CONFIG,
        "minus": {**CONFIG, "hidden_size": -1}, "word": {**CONFIG, "hidden_size": "big"},
        "huge": {**CONFIG, "hidden_size": 10**30}, "empty": dict.fromkeys(CONFIG),
    }  # fmt: skip
    for name, config in models.items():
        folder = root / "models" / name
        folder.mkdir(parents=True)
        if config is not None:
            (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (root / "models" / "pickle" / "pytorch_model.bin").write_bytes(b"x")
    (root / "models" / "zero").mkdir()
    (root / "models" / "zero" / "config.json").symlink_to("/dev/zero")
    (root / "models" / "pipe").mkdir()
    os.mkfifo(root / "models" / "pipe" / "config.json")
    for name, marker in (("torn", "["), ("odd", '{"pid": -5}')):
        (root / "runs" / name / "control").mkdir(parents=True)
        (root / "runs" / name / "control" / "run.json").write_text(marker, encoding="utf-8")
    return root


@pytest.fixture
def advisor(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    use("en")

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main(words)
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run


DATA = (
    ("missing.jsonl", 3), ("folder", 3), ("empty.jsonl", 3), ("binary.jsonl", 3), ("utf16.jsonl", 3), ("loop", 4),
    ("pipe.jsonl", 3), ("pipe.csv", 3), ("zero.jsonl", 3), ("zero.json", 3), ("zero.csv", 3), ("/dev/zero", 3),
    ("x.pkl", 3), ("x.zip", 3), ("deep.json", 3), ("cut.json", 3), ("num.json", 3), ("null.json", 3),
    ("twice.csv", 3), ("unknown.jsonl", 3), ("ffile", 3), (f"{ESC}.jsonl", 3), (f"{LONG}.jsonl", 4), (RAW, 3), ("", 3),
)  # fmt: skip
FACTS = (
    "missing.json", "folder", "empty.jsonl", "binary.jsonl", "loop", "pipe.json", "zero.json", "deep.json",
    "cut.json", "num.json", "null.json", "list.json", "nested.json", "nan.json", "big.json", "unknown.json",
    f"{ESC}.json", RAW,
)  # fmt: skip
RECIPES = (
    "missing.toml", "folder", "empty.jsonl", "binary.jsonl", "loop", "pipe.toml", "zero.toml", "keys.toml",
    "newer.toml", "cut.toml", "deep.toml", "nan.toml", "int.toml", f"{ESC}.toml", LONG, RAW,
)  # fmt: skip
MODELS = (
    "nope", "", "Qwen/Qwen3-8b-typo", ESC, LONG, RAW, "ffile", "models/no_config", "models/list", "models/minus",
    "models/word", "models/huge", "models/empty", "models/zero", "models/pipe",
)  # fmt: skip
FLAGS = (
    "x", "=", "=1", "n_labelled=", "n_labelled=many", "n_labelled=-1", "n_labelled=1e999", "vram_gb=nan",
    "nope=1", f"{ESC}=1", f"n_labelled={ESC}", "n_labelled=" + "9" * 5000,
)  # fmt: skip
NUMBERS = ("-1", "nan", "inf", "abc", "")
CASES = [
    *((("data", "check", "--", name), code) for name, code in DATA),
    *((("plan", "--model", QWEN, "--data", "ok.jsonl", f"--vram={vram}"), 2) for vram in NUMBERS),
    *((("estimate", "--model", QWEN, f"--vram={vram}"), 2) for vram in NUMBERS),
    *((("recommend", f"--vram={vram}"), 2) for vram in NUMBERS),
    *((("recommend", f"--facts={name}"), 2) for name in FACTS),
    *((("recommend", f"--answers={name}"), 2) for name in FACTS),
    *((("recommend", f"--report={name}"), 2) for name in FACTS),
    *((("recommend", "--fact", flag), 2) for flag in FLAGS),
    *((("estimate", "--", name), 2) for name in RECIPES),
    *((("train", "--", name), 2) for name in RECIPES),
    *((("estimate", f"--model={name}"), 2) for name in MODELS),
    *((("recipe", f"--model={name}", "--data", "ok.jsonl", "-o", "new"), 2) for name in MODELS),
    (("recipe", "--model", "models/no_weights", "--data", "ok.jsonl", "-o", "new"), 2),
    (("recipe", "--model", "models/pickle", "--data", "ok.jsonl", "-o", "new"), 6),
    *(
        (("recipe", "--model", QWEN, "--data", "ok.jsonl", "--vram=80", "-o", name), 4)
        for name in ("folder", f"a/{LONG}")
    ),
    *((("measure", f"--model={name}", "--data", "ok.jsonl", "-o", "new"), 2) for name in (ESC, RAW)),
    *(
        (("measure", f"--model={QWEN}", "--data", "ok.jsonl", "-o", "new", f"--prompt={text}"), 2)
        for text in (RAW,)
    ),
    *(
        (("recipe", f"--model={QWEN}", "--vram=80", "--data", "ok.jsonl", "-n", "-o", "new", *more), 2)
        for more in (
            ("--name", "../x"),
            ("--name", "A b"),
            ("--name", ESC),
            ("--prompt", RAW),
            ("--primary", ESC),
            ("--set", "schedule.epochs=-1"),
            ("--set", f"name={ESC}"),
            ("--set", "x"),
            ("--held-out", "0"),
        )
    ),
    *((("runs", "show", "--", name), 2) for name in ("nope", ESC, LONG, RAW, "/", "../folder")),
    *((("runs", "attach", "--", name), 2) for name in ("nope", ESC, LONG)),
    *(((word, "--", ESC), 2) for word in ("models", "gpus")),
    (("recommend", "--gpu", ESC), 2),
    (("graph", "--format", ESC), 2),
    (("demo", "--task", ESC), 2),
    (("doctor", ESC), 2),
    (("nope",), 2),
    ((ESC,), 2),
    ((RAW,), 2),
    (("--lang", "xx", "models"), 2),
    (("measure", "--model", QWEN, "-o", "new"), 2),
    (("train",), 2),
    (("train", "--resume", "folder"), 2),
]


@pytest.mark.parametrize(("words", "code"), CASES, ids=lambda value: ascii(value)[:70])
def test_a_wrong_input_is_told_with_what_to_do_and_the_right_exit_code(advisor, words, code):
    found, out, err = advisor(*words)

    assert (found, out) == (code, "")
    assert "error[" in err
    assert "\nhelp: " in err
    assert "fault of this program" not in err
    assert all(c == "\n" or c.isprintable() for c in err)


@pytest.mark.parametrize(("words", "code"), CASES[::3], ids=lambda value: ascii(value)[:70])
def test_with_json_the_error_is_the_one_object_on_stdout(advisor, words, code):
    at = words.index("--") if "--" in words else len(words)
    found, out, _ = advisor(*words[:at], "--json", *words[at:])

    assert found == code
    assert json.loads(out)["schema"] == "advisor/error/1"
    assert all(c == "\n" or " " <= c < "\x7f" for c in out)


def test_a_measurement_never_replaces_a_file_of_whoever_is_there(advisor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("train.jsonl").write_text(GOOD, encoding="utf-8")
    code, out, err = advisor("measure", "--model", "any/model", "--data", "train.jsonl", "-o", ".")

    assert (code, out) == (4, "")
    assert "it holds train.jsonl" in err
    assert Path("train.jsonl").read_text(encoding="utf-8") == GOOD
    assert [path.name for path in Path().iterdir()] == ["train.jsonl"]


def test_a_link_to_nowhere_is_not_replaced(advisor, tmp_path):
    link = tmp_path / "link.jsonl"
    link.symlink_to("nowhere")

    assert advisor("data", "convert", "ok.jsonl", "-o", str(link))[0] == 2
    assert link.is_symlink()


def test_a_pipe_that_somebody_writes_to_is_read(advisor, place):
    with subprocess.Popen(
        [sys.executable, "-c", "print('{\"n_labelled\": 800}')"], stdout=subprocess.PIPE
    ) as writer:
        code, out, _ = advisor("recommend", "--facts", f"/dev/fd/{writer.stdout.fileno()}", "--json")

    assert (code, json.loads(out)["data"]["facts"]["n_labelled"]["value"]) == (0, 800)


def _shell(line, **more):
    environment = {**os.environ, "ADVISOR_LANG": "en", "A": f"{sys.executable} -m advisor", **more}
    return subprocess.run(["bash", "-c", line], capture_output=True, env=environment, check=False)


@pytest.mark.parametrize("words", ["models", "recommend --vram 24 --json", "nope --json"])
def test_a_full_disk_behind_stdout_is_never_told_as_done(words):
    done = _shell(f"$A {words} > /dev/full")

    assert done.returncode == 4
    assert done.stderr.startswith(b"error[R0101]: the output cannot be written")


@pytest.mark.parametrize("words", ["models", "graph --expert --json"])
def test_a_reader_that_leaves_is_met_with_silence(words):
    done = _shell(f"$A {words} | true; exit ${{PIPESTATUS[0]}}")

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("line", "code"), [("$A models >&-", 0), ("$A nope >&-", 2), ("$A nope 2>/dev/full", 2)]
)
def test_a_closed_stream_changes_no_exit_code(line, code):
    done = _shell(line)

    assert done.returncode == code
    assert b"Traceback" not in done.stderr


def test_a_stream_that_cannot_say_chinese_gets_escapes():
    done = _shell("$A --lang zh doctor", PYTHONIOENCODING="latin-1", PYTHONUTF8="0")

    assert done.returncode in {0, 4}
    assert b"\\u8bed\\u8a00" in done.stdout


def test_the_demo_asks_for_what_it_needs_before_it_tells_anything(advisor, monkeypatch, place):
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    code, out, err = advisor("demo", "--keep", "kept")

    assert (code, out, Path("kept").exists()) == (4, "", False)
    assert "pip install 'finetune-advisor[train]'" in err


def test_control_c_while_the_program_loads_leaves_no_traceback(tmp_path):
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n", encoding="utf-8")
    done = _shell("$A models", PYTHONPATH=str(tmp_path))

    assert (done.returncode, done.stderr) == (130, b"")


INTERRUPTED = (
    "import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)"
)
"""A child of a shell's background job inherits an ignored SIGINT: the test must not depend on where it runs."""


@pytest.mark.parametrize("end", [INTERRUPTED, "raise SystemExit(130)"])
def test_control_c_before_the_trainer_hears_is_a_stop_that_promises_nothing(tmp_path, capsys, end):
    use("en")
    process = subprocess.Popen([sys.executable, "-c", end], stderr=subprocess.DEVNULL)
    process.wait()
    run = Run(tmp_path, process.pid, process)
    ended = outcome(run)
    watch.tell_ending(run, ended)

    assert (ended.state, ended.exit) == ("stopped", 130)
    assert capsys.readouterr().err == (
        "stopped at step 0; no checkpoint was saved\nnothing of it can be resumed: begin again, in a new directory\n"
    )
