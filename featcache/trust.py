"""Whether stores are read as they are, without comparing them with their checksums first.

That is one decision of a whole command, which no function on the way to a store has a part in:

    with trusting():
        retrieve.run(spec)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_depth = [0]  # of the blocks that are open; for all threads, which read for one another

_listeners: list[Callable[[str], None]] = []  # the one that was named last, if any

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


def tell(listener: Callable[[str], None]) -> None:
    """Name who receives one line where comparing takes long; before, nobody does."""
    _listeners[:] = [listener]


def note(message: str) -> None:
    """Give one line to whom `tell` has named."""
    for listener in _listeners:
        listener(message)
