"""What the tests of the trainers share: one thread, and a tiny model in a directory."""

import pytest
import tiny
import torch

torch.set_num_threads(1)  # bit-identical sums, and two cores for seven processes


@pytest.fixture(scope="session")
def base_files(tmp_path_factory):
    """A model directory that no test writes to."""
    return tiny.write_model(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture
def home(tmp_path, base_files):
    """A recipe's directory with the tiny base in it."""
    (tmp_path / "base").symlink_to(base_files, target_is_directory=True)
    return tmp_path
