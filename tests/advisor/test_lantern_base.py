import json
import shutil

import pytest

from advisor.errors import Refused
from advisor.learn.lantern.base import DIRECTORY, SUMS, base_dir
from recipes.exits import Exit

LIMIT_BYTES = 8_000_000


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(DIRECTORY, tmp_path / "base")


def test_the_shipped_base_is_the_one_whose_sums_stand_in_the_source():
    assert base_dir() == DIRECTORY


@pytest.mark.parametrize("name", SUMS)
def test_a_flipped_bit_is_refused_and_the_file_is_named(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)

    with pytest.raises(Refused, match=name) as raised:
        base_dir(copy)

    assert raised.value.exit_code == Exit.REFUSED


def test_a_missing_file_is_refused(copy):
    (copy / "config.json").unlink()

    with pytest.raises(Refused, match=r"config\.json"):
        base_dir(copy)


def test_the_base_is_small_has_its_notice_and_no_pickle():
    files = [path for path in DIRECTORY.iterdir() if path.is_file()]

    assert sum(path.stat().st_size for path in files) <= LIMIT_BYTES
    assert {path.name for path in files} == {*SUMS, "NOTICE"}
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pkl", ".pth"}]


def test_the_template_marks_what_the_assistant_says():
    assert "{% generation %}" in (DIRECTORY / "chat_template.jinja").read_text(encoding="utf-8")


def test_the_configuration_asks_for_no_foreign_code():
    assert "auto_map" not in json.loads((DIRECTORY / "config.json").read_text(encoding="utf-8"))
