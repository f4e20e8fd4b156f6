"""On a real terminal (a pty), nothing that comes from data, names, models or runs acts: only our own codes arrive."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from recipes.report import Arm, Rate, Report

TITLE, CLIPBOARD, RED, C1, BIDI = (
    "\x1b]0;owned\x07",
    "\x1b]52;c;b3duZWQ=\x07",
    "\x1b[31m",
    "\u009b31m",
    "\u202edetro\u2066",
)
ESC = TITLE + RED + C1 + BIDI
"""For names: short, and without a slash."""
EVIL = ESC + CLIPBOARD + "\x1bP+q\x1b\\\x7f\x08\r\u2028\u200f\x85"

OURS = re.compile(r"\r\n|\r\x1b\[K|\n|\t")
"""What we write ourselves: line ends (the terminal adds the carriage return) and the rewritten progress line."""
ACTS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
CONFIG = {
    "model_type": EVIL, "architectures": [EVIL], "num_hidden_layers": 2, "hidden_size": 64,
    "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 512, "max_position_embeddings": 256,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which every name and every text attacks the terminal."""
    root = tmp_path_factory.mktemp("hostile")
    rows = [{"instruction": f"say {i} {EVIL}", "output": f"{EVIL} it is {i}"} for i in range(150)]
    (root / f"{ESC}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (root / f"bad{ESC}.jsonl").write_bytes(f'{{"{ESC}": 1}}\n{{"a": {EVIL}\n'.encode())
    (root / f"{ESC}.csv").write_text(f"{ESC},b\n1,2\n", encoding="utf-8")
    (root / f"{ESC}.json").write_text(json.dumps({EVIL: EVIL}), encoding="utf-8")
    (root / f"{ESC}.toml").write_text(f"{json.dumps(ESC)} = {json.dumps(ESC)}\n", encoding="utf-8")
    model = root / f"model{ESC}"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (model / "tokenizer_config.json").write_text(json.dumps({"eos_token": EVIL}), encoding="utf-8")
    (model / "model.safetensors").write_bytes(b"x")
    for name, events in {"failed": FAILED, "done": DONE, "died": DONE[:-1]}.items():
        run = root / "runs" / f"{name}{ESC}"
        (run / "control").mkdir(parents=True)
        (run / "control" / "run.json").write_text("{}", encoding="utf-8")
        lines = [
            json.dumps({"v": 1, "seq": i, "t": EVIL, "mono": 0, **event}) for i, event in enumerate(events)
        ]
        (run / "events.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (run / "stdout.log").write_text(f"{EVIL}\nlast words {EVIL}\n", encoding="utf-8")
        (run / "report.json").write_text(REPORT.model_dump_json(), encoding="utf-8")
    return root


START = {"type": "start", "steps": 2, "method": EVIL, "model": EVIL, "pid": 1}
FAILED = (
    START,
    {"type": "error", "exit": 5, "code": EVIL, "msg": EVIL, "msgid": EVIL, "remedy": EVIL, "places": [EVIL]},
)
DONE = (
    START,
    {"type": "phase", "name": EVIL},
    {"type": "warn", "code": EVIL, "msg": EVIL},
    {"type": "progress", "phase": EVIL, "arm": EVIL, "done": 1, "of": 2},
    {"type": "step", "step": 1, "loss": 1.0},
    {"type": "sample", "prompt": EVIL, "text": EVIL, "arm": EVIL},
    {"type": "paused", "step": 1, "reason": EVIL},
    {"type": "stalled", "step": 1, "reason": EVIL},
    {"type": "checkpoint", "step": 1, "path": EVIL},
    {"type": "done", "exit": 0, "report": EVIL},
)
RATE = Rate(value=0.5, low=0.4, high=0.6, n=10)
REPORT = Report(
    run="done", model="m", primary="exact", held_out_rows=10, verdict="not_trained", finished=EVIL,
    arms=[Arm(name="base", scores={EVIL: RATE}, prompt_tokens=1.0, seconds=1.0)],
    versions={EVIL: EVIL}, machine={EVIL: EVIL},
)  # fmt: skip


def terminal(place, *words, **more):
    """Everything that arrives at a terminal of 80 columns when `advisor` is called with `words`."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "ADVISOR_LANG": "en", "TERM": "xterm-256color", "FORCE_COLOR": "1", **more}
    process = subprocess.Popen(
        [sys.executable, "-m", "advisor", *words],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=place, env=environment,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while chunk := _read(ours):
        seen += chunk
    os.close(ours)
    process.wait()
    return seen.decode("utf-8")


def _read(handle):
    try:
        return os.read(handle, 2**16)
    except OSError:  # how Linux says that nobody is at the other end any more
        return b""


MODEL = f"model{ESC}"
CALLS = [
    ("data", "check", "--", f"{ESC}.jsonl"),
    ("data", "check", "--", f"bad{ESC}.jsonl"),
    ("data", "check", "--", f"{ESC}.csv"),
    ("data", "check", "--map", f"prompt={EVIL}", "--", f"{ESC}.csv"),
    ("data", "preview", "--model", MODEL, "--", f"{ESC}.jsonl"),
    ("data", "convert", "-n", "-o", f"new{ESC}", "--", f"{ESC}.jsonl"),
    ("recommend", "--data", f"{ESC}.jsonl", "--explain"),
    ("recommend", "--facts", f"{ESC}.json"),
    ("recommend", "--fact", f"n_labelled={EVIL}"),
    ("recommend", "--facts-dir", "."),
    ("estimate", "--model", MODEL),
    ("estimate", "--", f"{ESC}.toml"),
    ("plan", "--model", MODEL, "--data", f"{ESC}.jsonl"),
    ("recipe", "--model", MODEL, "--data", f"{ESC}.jsonl", "-n", "-o", f"new{ESC}", "--prompt", EVIL),
    ("train", "-n", f"{ESC}.toml"),
    ("runs", "list"),
    ("runs", "show", "done"),
    ("runs", "show", "died"),
    ("runs", "attach", "done"),
    ("runs", "attach", "died"),
    ("runs", "attach", "failed"),
    ("runs", "attach", "failed", "--json"),
    ("runs", "list", "--json"),
    ("models", EVIL),
    ("gpus", "--", EVIL),
    (EVIL,),
    ("recommend", f"--{EVIL}"),
    ("--lang", EVIL, "models"),
]


@pytest.mark.parametrize("words", CALLS, ids=lambda words: ascii(" ".join(words))[:60])
def test_no_byte_from_outside_acts_on_the_terminal(place, words):
    seen = terminal(place, *words)

    assert "Traceback" not in seen
    assert "fault of this program" not in seen
    assert not ACTS.search(OURS.sub("", seen)), ascii(seen)
    assert seen.strip()


def test_the_text_of_a_sequence_stays_readable(place):
    seen = terminal(place, "runs", "attach", "failed")

    assert "]0;owned" in seen
