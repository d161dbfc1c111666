"""Where everything that lightalign keeps lies, unless a user names another folder."""

import os
import shlex
from pathlib import Path

VARIABLE = "LIGHTALIGN_HOME"


def default_home() -> Path:
    """Return `lightalign` in the user's cache folder, `~` not yet expanded."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "lightalign"


def usual_home() -> Path:
    """Return the home of a command that names none."""
    return expanded(Path(os.environ.get(VARIABLE) or default_home()))


def expanded(path: Path) -> Path:
    """Return a path with the user's folder in the place of `~`; of no such user it stays."""
    try:
        return path.expanduser()
    except RuntimeError:  # `~name` of a user that is not there is as good a name of a file
        return path


def command_line(*words: str | Path, home: Path) -> str:
    """Return a command of ours that runs as it is printed, in this folder or in any other.

    The home is named only where a command that names none would take another.

    Args:
        words: What follows `lightalign`.
        home: Folder of everything lightalign keeps.
    """
    command = ["lightalign", *map(str, words)]
    if os.path.realpath(home) != os.path.realpath(usual_home()):
        command += ["--home", str(home.absolute())]
    return shlex.join(command)
