"""What click says itself is said in the reader's language, too."""

import os
import subprocess
import sys

import pytest

from advisor.text import missing


def said(*words):
    """A process of its own: gettext remembers, and so does the environment."""
    environment = {**os.environ, "ADVISOR_LANG": "en"}
    done = subprocess.run(
        [sys.executable, "-m", "advisor", *words],
        capture_output=True, text=True, encoding="utf-8", check=False, env=environment,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(bool(list(missing(["Usage:"], "zh"))), reason="the catalogue was not compiled anew")
def test_usage_and_mistakes_are_chinese_where_chinese_was_chosen():
    assert "用法：" in said("--lang", "zh", "train", "--help")[1]
    code, text = said("--lang", "zh", "train", "--bogus")
    assert (code, "没有选项 '--bogus'" in text) == (2, True)
    assert "缺少参数" in said("--lang", "zh", "train")[1]


def test_and_english_where_it_was_not():
    code, text = said("train")

    assert (code, "Missing argument 'RECIPE'." in text) == (2, True)
