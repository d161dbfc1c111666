"""Messages to the user from functions that have no `Progress`."""

from collections.abc import Callable

_listeners: list[Callable[[str], None]] = []  # at most one
_sent: set[str] = set()


def tell(listener: Callable[[str], None]) -> None:
    """Set the receiver of all messages; without one they are dropped."""
    _listeners[:] = [listener]
    _sent.clear()


def note(message: str) -> None:
    """Send a message to the receiver, each one once."""
    if message in _sent:
        return
    for listener in _listeners:
        _sent.add(message)
        listener(message)
