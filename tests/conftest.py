"""Shared settings: Hypothesis without deadlines (the first render loads templates) and repeatable."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # strategies and fakes that several tests share

settings.register_profile("house", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("house")
