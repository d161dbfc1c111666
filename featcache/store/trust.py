"""Read stores as they are, without comparing them with their checksums first.

That is one decision of a whole command, which no function on the way to a store has a part in:

    with trusting():
        retrieve.run(spec)
"""

from collections.abc import Iterator
from contextlib import contextmanager

# how many blocks are open, in all threads together: they read for one another
_depth = [0]

WARNING = "stores were read without comparing them with their checksums (--no-verify)"


@contextmanager
def trusting() -> Iterator[None]:
    """Read stores without verifying them inside this block; sizes and types are still compared."""
    _depth[0] += 1
    try:
        yield
    finally:
        _depth[0] -= 1


def is_trusting() -> bool:
    """Return whether stores are read without verifying them."""
    return _depth[0] > 0


def warnings() -> list[str]:
    """Return what a report says of it."""
    return [WARNING] if is_trusting() else []
