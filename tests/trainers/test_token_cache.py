"""Rows are tokenised once: a second run reads them back, and never believes what does not hold."""

import pytest
import tiny

from recipes.plan import Data
from trainers import data
from trainers.run import tokens


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own for every data set, and a count of how often something was tokenised."""
    monkeypatch.setattr(tokens, "CACHED_ROWS", 0)
    monkeypatch.setattr(tokens, "home", lambda: tmp_path / "tokens")
    counted, real = [], data.examples
    monkeypatch.setattr(data, "examples", lambda *words: counted.append(1) or real(*words))
    return counted


ROWS = [*tiny.rows(12), tiny.row("say it", "ab " * 60, line=13)]


def wanted(**changes):
    settings = {"length_tokens": 48, "train_sha256": "a" * 64, "too_long": "split"}
    return Data(train="t", held_out="h", held_out_sha256="0" * 64, **{**settings, **changes})


def test_the_second_time_the_same_tokens_are_read_back(cache):
    first, read_first = tokens.examples(tiny.tokenizer(), ROWS, wanted())
    again, read_again = tokens.examples(tiny.tokenizer(), ROWS, wanted())

    assert (read_first, read_again, len(cache)) == (False, True, 1)
    assert again == first
    assert again.cut == ("data.jsonl:13",)
    assert all(a.row is b.row for a, b in zip(first.kept, again.kept, strict=True))


@pytest.mark.parametrize(
    "change",
    [{"train_sha256": "b" * 64}, {"length_tokens": 40}, {"too_long": "truncate"}],
    ids=["rows", "length", "policy"],
)
def test_anything_that_it_depends_on_is_another_entry(cache, change):
    tokens.examples(tiny.tokenizer(), ROWS, wanted())
    _, read = tokens.examples(tiny.tokenizer(), ROWS, wanted(**change))

    assert (read, len(cache)) == (False, 2)


def test_another_template_or_tokenizer_is_another_entry(cache):
    tokens.examples(tiny.tokenizer(), ROWS, wanted())
    _, template = tokens.examples(tiny.tokenizer(tiny.UNMARKED), ROWS, wanted())
    other = tiny.tokenizer()
    other.add_tokens(["ahoy"])
    _, vocabulary = tokens.examples(other, ROWS, wanted())

    assert (template, vocabulary, len(cache)) == (False, False, 3)


@pytest.mark.parametrize("hurt", ["flip", "cut", "manifest", "gone"])
def test_an_entry_that_was_hurt_is_made_anew_and_not_believed(cache, tmp_path, hurt):
    first, _ = tokens.examples(tiny.tokenizer(), ROWS, wanted())
    (entry,) = (tmp_path / "tokens").iterdir()
    arrow = next(entry.glob("*.arrow"))
    whole = arrow.read_bytes()
    match hurt:
        case "flip":
            arrow.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
        case "cut":
            arrow.write_bytes(whole[:-10])
        case "manifest":
            (entry / tokens.MANIFEST).write_text("{")
        case "gone":
            arrow.unlink()
    again, read = tokens.examples(tiny.tokenizer(), ROWS, wanted())
    third, kept = tokens.examples(tiny.tokenizer(), ROWS, wanted())

    assert (read, kept, len(cache)) == (False, True, 2)
    assert first == again == third


def test_a_disk_that_refuses_costs_the_entry_and_nothing_else(cache, tmp_path):
    (tmp_path / "tokens").write_text("a file where the folder should be")
    found, read = tokens.examples(tiny.tokenizer(), ROWS, wanted())

    assert not read
    assert len(found.kept) > 12


def test_few_rows_are_tokenised_anew_because_that_is_faster(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(tokens, "CACHED_ROWS", 5_000)
    tokens.examples(tiny.tokenizer(), ROWS, wanted())

    assert not (tmp_path / "tokens").exists()


def test_old_entries_go(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "KEPT", 2)
    for length in (40, 44, 48, 52):
        tokens.examples(tiny.tokenizer(), ROWS, wanted(length_tokens=length))

    assert len(list((tmp_path / "tokens").iterdir())) == 2
