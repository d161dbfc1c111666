"""Let `python -m lightalign` do what `lightalign` does."""

from .cli import main

main()
