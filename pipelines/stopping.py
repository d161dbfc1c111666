"""What is said of its work by a command that is stopped."""

_NOTHING = "nothing is kept"
_kept = [_NOTHING]


def begin() -> None:
    """Forget what the command before has kept."""
    _kept[0] = _NOTHING


def keep(text: str) -> None:
    """Say what is kept from now on, and how to go on with it."""
    _kept[0] = text


def kept() -> str:
    """Return what is kept where the command is stopped now."""
    return _kept[0]
