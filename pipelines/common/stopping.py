"""Message of a stopped command: the work that it keeps, and how to go on."""

from collections.abc import Iterator
from contextlib import contextmanager

_NOTHING = "nothing is kept"
SHARDS = "finished shards are kept: run the same command to go on"
REPLIES = "replies are kept: run the same command to go on"
_kept = [_NOTHING]


def begin() -> None:
    """Reset the message for a new command."""
    _kept[0] = _NOTHING


def keep(text: str) -> None:
    """Set the message from now on."""
    _kept[0] = text


@contextmanager
def keeping(text: str) -> Iterator[None]:
    """Set the message within the block; after an error or a stop it stays."""
    before = kept()
    keep(text)
    yield
    keep(before)


def kept() -> str:
    """Return the message for a stop at this moment."""
    return _kept[0]
