"""Message of a stopped command: which part of its work is kept, and how to go on with it."""

from collections.abc import Iterator
from contextlib import contextmanager

_NOTHING = "nothing is kept"
SHARDS = "finished shards are kept: run the same command to go on"
_kept = [_NOTHING]


def begin() -> None:
    """Forget what the command before has kept."""
    _kept[0] = _NOTHING


def keep(text: str) -> None:
    """Note what is kept from now on, and how to go on with it."""
    _kept[0] = text


@contextmanager
def keeping(text: str) -> Iterator[None]:
    """Note what is kept within the block; after an error or a stop it stays what was kept there."""
    before = kept()
    keep(text)
    yield
    keep(before)


def kept() -> str:
    """Return what is kept where the command is stopped now."""
    return _kept[0]
