"""What click says itself, in the reader's language: it asks gettext, so it is given our catalogue.

The sentences stand here only so that they are marked: the catalogue must have them, and no other.
"""

import gettext
import os
from importlib.resources import files
from typing import Final

from advisor.text import language
from recipes.words import N_

SENTENCES: Final = (
    N_("Usage:"),
    N_("Options"),
    N_("Show this message and exit."),
    N_("Show the version and exit."),
    N_("default: {default}"),
    N_("Missing argument"),
    N_("Missing option"),
    N_("Missing command."),
    N_("Invalid value: {message}"),
    N_("Invalid value for {param_hint}: {message}"),
    N_("No such option {name!r}."),
    N_("No such command {name!r}."),
    N_("Choose from:\n\t{choices}"),
    N_("{value!r} is not a valid {number_type}."),
    N_("{value} is not in the range {range}."),
    N_("{name} {filename!r} does not exist."),
    N_("{name} {filename!r} is a file."),
    N_("{name} {filename!r} is a directory."),
    N_("{name} {filename!r} is not readable."),
    N_("Option {name!r} does not take a value."),
)


def speak() -> None:
    """Let click speak as we do from now on; again whenever a language was chosen."""
    os.environ["LANGUAGE"] = language()
    gettext.bindtextdomain("advisor", str(files("advisor").joinpath("locale")))
    gettext.textdomain("advisor")
