"""Where the program begins: `advisor`, and `python -m advisor`."""

import sys
from typing import Final

INTERRUPTED: Final = 130
"""As in `recipes.exits`, which may be what is being imported when Ctrl-C comes."""


def main() -> None:
    """Load the command line and run it; Ctrl-C while it loads ends it as quietly as later on."""
    try:
        from advisor.cli import main as command_line  # noqa: PLC0415  (loading takes a moment, and may be interrupted)

        command_line()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
