"""What is wrong and what to do, in the reader's language: the one wording for command line and screens."""

from collections.abc import Mapping

from advisor.text import t
from recipes.errors import Failure, Value


def problem(failure: Failure) -> str:
    """What is wrong, with the value."""
    return t(failure.problem, **_values(failure))


def remedy(failure: Failure) -> str:
    """What to do about it; may be empty."""
    return t(failure.remedy, **_values(failure))


def _values(failure: Failure) -> Mapping[str, Value]:
    """The values of the sentence; those that are words themselves are translated too."""
    words = {name: t(str(failure.values[name])) for name in failure.worded if name in failure.values}
    return {**failure.values, **words}
