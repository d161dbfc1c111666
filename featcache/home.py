"""Home folder, in which lightalign keeps everything unless a user names another folder."""

import os
import shlex
from pathlib import Path

from .errors import SpecError

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


def plain_place(path: Path) -> Path:
    """Return the one way of writing a path: absolute, and without `~`, `..` and `.`; links stay.

    Where a `..` follows a link, its target is meant, and written.
    """
    absolute = expanded(path).absolute()
    # `..` after a link leads above its target, and not above the link as here
    plain = Path(os.path.normpath(absolute))
    is_same = os.path.realpath(plain) == os.path.realpath(absolute)
    return plain if is_same else Path(os.path.realpath(absolute))


def is_same_place(first: Path | None, second: Path | None) -> bool:
    """Return whether two paths lead to the same place, through links too."""
    if first is None or second is None:
        return first is second
    return first == second or os.path.realpath(first) == os.path.realpath(second)


def checked_home(path: Path) -> Path:
    """Return the folder that a home is named by, which need not be there yet.

    Raises:
        SpecError: It is no folder, may not be read, or has a name that is not UTF-8.
    """
    path = expanded(path)
    require_utf8(path, what="--home")
    try:
        if not _is_there(path):
            return path
        if not path.exists():
            raise SpecError(f"--home {path} is a link to nothing: name a folder")
        if not path.is_dir():
            raise SpecError(f"--home {path} is not a folder")
        os.scandir(path).close()
        _is_there(path / "features")  # which nobody can tell where it may not be searched
    except OSError as error:
        raise SpecError(f"--home {path} cannot be read: {error.strerror}") from error
    return path


def _is_there(path: Path) -> bool:
    """Return whether anything has this name; what cannot be asked, such as below a file, raises."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def is_in_home(path: Path, home: Path) -> bool:
    """Return whether a path lies in a home itself, and not where a link in it leads."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(home))


def home_of_features(path: Path) -> Path | None:
    """Return the home in which a path is `features/DATASET/SPLIT/NAME`; None for one elsewhere.

    Links are not followed: a home may hold the stores of another one, which it cannot write to.
    """
    place = path.absolute()
    homes = place.parents[3:4]
    return homes[0] if homes and place.parents[2] == homes[0] / "features" else None


def require_utf8(path: Path, *, what: str) -> None:
    """Refuse a path that is not UTF-8: libraries that read weights cannot open files there.

    Raises:
        SpecError: The path, which `what` named, is not, or is not where its links lead.
    """
    names = (str(path.absolute()), os.path.realpath(path))
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise SpecError(
            f"{what} {path} is at a path that is not UTF-8, where weights cannot be read: name "
            "another folder"
        ) from error


def command_line(*words: str | Path, home: Path) -> str:
    """Return a command of ours that runs as it is printed, in this folder or in any other.

    The home is named only where a command that names none would take another.
    """
    command = ["lightalign", *map(str, words)]
    if os.path.realpath(home) != os.path.realpath(usual_home()):
        command += ["--home", str(home.absolute())]
    return shlex.join(command)
