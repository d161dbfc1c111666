"""Lines for whoever runs a command, from functions that nobody hands a progress to."""

from collections.abc import Callable

_listeners: list[Callable[[str], None]] = []  # the one that was named last, if any
_told: set[str] = set()  # what it was told already


def tell(listener: Callable[[str], None]) -> None:
    """Name who receives each line; before, nobody does."""
    _listeners[:] = [listener]
    _told.clear()


def note(message: str) -> None:
    """Give one line to whom `tell` has named, unless it was told this already."""
    if message in _told:
        return
    for listener in _listeners:
        _told.add(message)
        listener(message)
