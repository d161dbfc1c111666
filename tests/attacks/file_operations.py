"""One shim that counts the file operations of a process below a folder, and fails one of them.

Counted are opening for writing, write, fsync, rename, link, unlink, mkdir, rmdir, truncate, chmod
and utime. Python's audit events announce most of them before they happen; writes and fsync go
through wrappers. What a library writes natively (FAISS, HDF5, safetensors) is not seen itself, but
what our code does around it is.
"""

import builtins
import errno
import io
import os
import pathlib
import signal
import sys
import threading
from pathlib import Path
from typing import Any

KILL = "kill"  # SIGKILL at the operation; of a write, half of the bytes are there
BROKEN = "EIO"  # the operation fails once
FULL = "ENOSPC"  # from the operation on nothing more can be written; what is there can be removed
FAULTS = (KILL, BROKEN, FULL)

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_GROWING = {"open", "write", "fsync", "mkdir", "link", "symlink"}  # what a full disk refuses
_EVENTS = {  # audit event: its name here, and where its paths and their folder descriptors stand
    "open": ("open", ((0, None),)),
    "os.rename": ("rename", ((0, 2), (1, 3))),
    "os.link": ("link", ((0, 2), (1, 3))),
    "os.symlink": ("symlink", ((1, 2),)),
    "os.remove": ("unlink", ((0, 1),)),
    "os.mkdir": ("mkdir", ((0, 2),)),
    "os.rmdir": ("rmdir", ((0, 1),)),
    "os.truncate": ("truncate", ((0, None),)),
    "os.chmod": ("chmod", ((0, 2),)),
    "os.utime": ("utime", ((0, 3),)),
}


class FileOperations:
    """Counter of the file operations below a folder, which fails the one of a number.

    Args:
        folder: Operations elsewhere are not counted.
        number: Which operation fails, counted from 1; 0 fails none.
        fault: One of `FAULTS`.
    """

    def __init__(self, folder: Path, *, number: int = 0, fault: str = KILL) -> None:
        self.folder = str(folder)
        self.number = number
        self.fault = fault
        self.names: list[str] = []
        self._lock = threading.RLock()

    @property
    def struck(self) -> bool:
        """Return whether the operation has been reached."""
        return 0 < self.number <= len(self.names)

    def install(self) -> None:
        """Watch this process from now to its end."""
        global _WATCHED
        _WATCHED = self
        sys.addaudithook(self._event)
        for owner in (io, builtins):
            owner.open = _open
        pathlib.io = io  # type: ignore[attr-defined]
        os.fsync = self._fsync
        os.write = self._write

    def write(self, path: str, content: Any, write: Any) -> int:
        """Write `content` by `write` unless it is the turn of this operation to fail."""
        if not self._is_below(path):
            return write(content)
        with self._lock:
            if self._is_turn("write"):
                write(memoryview(content).cast("B")[: memoryview(content).nbytes // 2])
                self._strike(path)
        return write(content)

    def _event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or (event == "open" and not _writes(arguments)):
            return
        name, places = _EVENTS[event]
        paths = [_absolute(arguments[at], where and arguments[where]) for at, where in places]
        below = [path for path in paths if self._is_below(path)]
        if below:
            self._count(name, below[0])

    def _fsync(self, descriptor: int) -> None:
        # nothing is flushed: what a killed process has written is there without it
        path = _path_of(descriptor)
        if self._is_below(path):
            self._count("fsync", path)

    def _write(self, descriptor: int, content: Any) -> int:
        return self.write(_path_of(descriptor), content, lambda part: _WRITE(descriptor, part))

    def _count(self, name: str, path: str) -> None:
        with self._lock:
            if self._is_turn(name):
                self._strike(path)

    def _is_turn(self, name: str) -> bool:
        self.names.append(name)
        if self.fault == FULL:
            return self.struck and name in _GROWING
        return len(self.names) == self.number

    def _strike(self, path: str) -> None:
        if self.fault == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        number = errno.EIO if self.fault == BROKEN else errno.ENOSPC
        raise OSError(number, os.strerror(number), path)

    def _is_below(self, path: str) -> bool:
        return path.startswith(f"{self.folder}/")


class _CountingFile(io.FileIO):
    """File whose every write is counted: buffers above it call this method."""

    def write(self, content: Any) -> int:
        assert _WATCHED is not None
        return _WATCHED.write(str(self.name), content, super().write)


_WATCHED: FileOperations | None = None
_OPEN = io.open
_WRITE = os.write


def _open(
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
) -> Any:
    """Open as `io.open` does, but so that writes are counted."""
    if isinstance(file, int) or not set(mode) & set("wax+") or "+" in mode or buffering == 0:
        return _OPEN(file, mode, buffering, encoding, errors, newline, closefd, opener)
    raw = _CountingFile(os.fspath(file), mode.replace("b", "").replace("t", ""), opener=opener)
    buffered = io.BufferedWriter(raw)
    if "b" in mode:
        return buffered
    text = io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline)
    text.mode = mode
    return text


def _writes(arguments: tuple[Any, ...]) -> bool:
    path, _, flags = arguments
    return not isinstance(path, int) and bool((flags or 0) & _WRITING)


def _absolute(path: Any, folder: Any) -> str:
    if isinstance(path, int):
        return _path_of(path)
    name = os.fsdecode(path)
    if isinstance(folder, int) and folder >= 0 and not name.startswith("/"):
        return f"{_path_of(folder)}/{name}"
    return str(Path.cwd() / name)


def _path_of(descriptor: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return ""
