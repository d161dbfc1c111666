"""Check the place of an output before the long part of the work begins."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from ...featcache.errors import SpecError
from ...featcache.regular_files import open_regular

GENERATOR = "lightalign"
_HEAD = 4096  # bytes within which a file says who wrote it
_PAGE_MARK = f'<meta name="generator" content="{GENERATOR}">'.encode()
_PICTURE_MARK = b"tEXtSoftware\0" + GENERATOR.encode()
_MARKS = {b"<!doctype html>": _PAGE_MARK, b"\x89PNG\r\n\x1a\n": _PICTURE_MARK}


def is_own_file(path: Path) -> bool:
    """Return whether a file is a page or a picture that names us as its generator."""
    with open_regular(path) as file:
        head = file.read(_HEAD)
    return any(head.startswith(start) and mark in head for start, mark in _MARKS.items())


def never_own(_path: Path) -> bool:
    """Return that a file cannot say who wrote it."""
    return False


def check_file(
    path: Path, *, option: str, force: bool, is_own: Callable[[Path], bool] = is_own_file
) -> None:
    """Check that a file may be written: nothing is there, or a file that may be replaced.

    Args:
        path: The file; folders that miss above it will be made.
        option: Option that named it, for the message.
        force: Whether any regular file may be replaced.
        is_own: Whether a file is one that we wrote, which needs no force.

    Raises:
        SpecError: It is a folder, a link, a device, or a file of somebody else, or it cannot be
            made there.
    """
    mode = _mode(path, option)
    if mode is None:
        return
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise SpecError(f"{option} is a file, and {path} is {what}")
    if force:
        return
    try:
        ours = is_own(path)
    except OSError as error:
        raise SpecError(f"{option} {path} cannot be read: {error.strerror}") from error
    if not ours:
        raise SpecError(
            f"{path} is there already and does not say that lightalign wrote it: name another "
            f"{option}, or add --force"
        )


def check_folder(
    path: Path, *, option: str, force: bool, is_own: Callable[[Path], bool], what: str
) -> None:
    """Check that a folder may be written: none is there, an empty one, or one to be replaced.

    Args:
        path: The folder; those that miss above it will be made.
        option: Option that named it, for the message.
        force: Whether a folder that we wrote may be replaced; no other ever is.
        is_own: Whether a folder holds what we write into one, and nothing else.
        what: What is written, for the message.

    Raises:
        SpecError: Something is there that is not replaced, or it cannot be made there.
    """
    mode = _mode(path, option)
    if mode is None:
        return
    if not stat.S_ISDIR(mode):
        raise SpecError(f"{option} is a folder, and {path} is there already and is none")
    try:
        if not any(path.iterdir()):
            return
        ours = is_own(path)
    except OSError as error:
        raise SpecError(f"{option} {path} cannot be read: {error.strerror}") from error
    if not force:
        raise SpecError(f"{path} is there already: name another {option}, or add --force")
    if not ours:
        raise SpecError(f"{path} is no {what}, so --force does not replace it")


def _mode(path: Path, option: str) -> int | None:
    """Return the mode of the file at a path, or None if there is none and one can be made.

    Raises:
        SpecError: It is a link, or nothing can be made there.
    """
    try:
        # of a link itself: an atomic replacement would put the file in place of the link
        mode = path.lstat().st_mode
    except FileNotFoundError:
        _check_above(path, option)
        return None
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise SpecError(f"{option} {str(path)!r} cannot be a name: {error}") from error
    except OSError as error:
        raise SpecError(f"{option} {path} cannot be written: {error.strerror}") from error
    if stat.S_ISLNK(mode):
        raise SpecError(f"{option} {path} is a symbolic link: name the place that it leads to")
    _check_writable(path.parent, option)
    return mode


def _check_above(path: Path, option: str) -> None:
    """Check that all folders above a path are there or can be made."""
    for folder in path.absolute().parents:
        if not os.path.lexists(folder):
            continue
        if not folder.exists():
            raise SpecError(f"{option} {path}: {folder} is a symbolic link to nothing")
        if not folder.is_dir():
            raise SpecError(f"{option} {path}: {folder} is no folder")
        _check_writable(folder, option)
        return


def _check_writable(folder: Path, option: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        reason = os.strerror(errno.EACCES)
        raise SpecError(f"{option}: nothing can be written in {folder.absolute()}: {reason}")
