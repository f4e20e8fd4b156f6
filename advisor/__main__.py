"""`python -m advisor`: the same as the console script."""

from advisor.cli import main

main()
