"""Check files against their promised checksums, large ones once for as long as nobody touches them.

Reading gigabytes takes seconds. What was read and found whole is remembered by the size, the inode
and the two times (of content and of inode) of a file, which every write changes.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import files
from .errors import LightalignError, StoreCorruptError
from .regular_files import open_regular

LARGE = 2**26  # bytes; of less the checksum takes less than a tenth of a second each time

_SETTLED = 2 * 10**9  # ns; a write within a tick of the clock after our read could keep the times
_VERSION = 1


def promise_of(path: Path) -> dict[str, Any]:
    """Return size and checksum of a file, for a sealed table, as `FileChecks.require` takes it."""
    return {"bytes": path.stat().st_size, "sha256": files.sha256_file(path)}


class FileChecks:
    """Comparison of files with their promises, and the memory of it.

    Args:
        memory: JSON file that remembers, in a folder for such files alone; where it cannot be read
            or written, or says something else, files are read again. None remembers nothing.
        least: Size in bytes from which on files are remembered.
    """

    def __init__(self, memory: Path | None, *, least: int = LARGE) -> None:
        self._memory = memory
        self._least = least

    def require(self, folder: Path, promises: Mapping[str, Mapping[str, Any]]) -> None:
        """Pass if each file of `folder` has the size and the checksum that it is promised to have.

        Args:
            folder: Where the files lie.
            promises: `promise_of` each file, by name.

        Raises:
            StoreCorruptError: A file is missing, is no regular file, or has other bytes.
        """
        remembered = self._recall()
        confirmed = {}
        for name, promise in promises.items():
            mark = _mark(folder / name, promise["bytes"])
            remembers = {**mark, "sha256": promise["sha256"]}
            if remembered.get(str(folder / name)) != remembers:
                _compare(folder / name, promise["sha256"])
            if mark["size"] >= self._least and _is_settled(mark) and self._memory is not None:
                confirmed[str(folder / name)] = remembers
        if any(remembered.get(path) != mark for path, mark in confirmed.items()):
            self._remember({**remembered, **confirmed})

    def _recall(self) -> dict[str, Any]:
        if self._memory is None or not self._memory.is_file():
            return {}
        try:
            table = files.read_sealed(self._memory)
        except (StoreCorruptError, OSError):
            return {}  # then everything is read again
        verified = table.get("verified") if table.get("version") == _VERSION else None
        return dict(verified) if isinstance(verified, dict) else {}

    def _remember(self, verified: Mapping[str, Any]) -> None:
        assert self._memory is not None
        there = {path: mark for path, mark in verified.items() if Path(path).is_file()}
        try:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            files.clear_abandoned(self._memory.parent)
            files.write_sealed(self._memory, {"version": _VERSION, "verified": there})
        except (OSError, LightalignError):
            return  # a full disk or a home of another user: the next start reads again


def _mark(path: Path, size: int) -> dict[str, int]:
    """Return what changes when a file is written, if the file has the promised size.

    Raises:
        StoreCorruptError: There is no such regular file, or it has another size.
    """
    try:
        with open_regular(path) as file:
            state = os.fstat(file.fileno())
    except OSError as error:
        raise StoreCorruptError(f"cannot read {path}: {error.strerror}") from error
    if state.st_size != size:
        raise StoreCorruptError(f"{path} has {state.st_size} bytes, not {size}")
    return {
        "size": state.st_size,
        "inode": state.st_ino,
        "changed_ns": state.st_mtime_ns,
        "inode_changed_ns": state.st_ctime_ns,
    }


def _is_settled(mark: Mapping[str, int]) -> bool:
    return max(mark["changed_ns"], mark["inode_changed_ns"]) < time.time_ns() - _SETTLED


def _compare(path: Path, sha256: str) -> None:
    """Pass if a file has a checksum.

    Raises:
        StoreCorruptError: It has another, or cannot be read.
    """
    try:
        checksum = files.sha256_file(path)
    except OSError as error:
        raise StoreCorruptError(f"cannot read {path}: {error.strerror}") from error
    if checksum != sha256:
        raise StoreCorruptError(f"{path} has other bytes than it was written with")
