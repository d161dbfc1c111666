"""Compare files with the checksums that they are promised to have, large ones once.

Reading gigabytes takes seconds. What was read and found whole is remembered until somebody touches
it, in a file of the home:

    <home>/verified/<dataset>--<split>--<name of the store>.json    the shards of a store
    <home>/verified/indexes.json                                    the large files of all indexes

Each holds one hash by path below the home: of the promised sizes and checksums, and of the size,
time of change, inode and time of its inode's change of each file, one of which every write changes.
Nothing depends on such a memory: where it is damaged or cannot be written, files are read again.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import atomic_files
from ..config import fingerprint
from ..errors import LightalignError, StoreCorruptError
from ..home import home_of_features
from ..regular_files import open_regular
from .key import StoreDescription

FOLDER = "verified"
LARGE = 2**26  # bytes; of less the checksum takes less than a tenth of a second each time

_VERSION = 2  # earlier ones had another format for stores than for indexes
_MAX_BYTES = 2**26  # of a memory: the shards of 20 TB
_SETTLED = 2 * 10**9  # ns; a write in the same tick of the clock as the last one keeps the times


@dataclass(frozen=True)
class State:
    """State of files before they are read.

    Attributes:
        mark: Hash that differs once a file was touched, or another content is promised.
        is_settled: Whether whatever comes will change it.
    """

    mark: str
    is_settled: bool


def state_of(folder: Path, promises: Mapping[str, Mapping[str, Any]]) -> State:
    """Return the state of files below a folder, of which each has a promise by its name.

    Raises:
        OSError: One is not there, or may not be asked for.
    """
    return _state(promises, {name: (folder / name).stat() for name in promises})


def _state(promises: Mapping[str, Any], stats: Mapping[str, os.stat_result]) -> State:
    times = [max(stat.st_mtime_ns, stat.st_ctime_ns) for stat in stats.values()]
    # the inode and its change too: another file may have been given the size and time of this one
    marks = [
        [name, stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns]
        for name, stat in stats.items()
    ]
    is_settled = max(times, default=0) < time.time_ns() - _SETTLED
    return State(fingerprint([promises, marks]), is_settled)


class Memory:
    """Memory of what was read and found whole, by its name in a home; without one, of nothing."""

    def __init__(self, home: Path | None, name: str) -> None:
        self._home = home
        self._path = None if home is None else home / FOLDER / f"{name}.json"

    def read(self) -> dict[str, str]:
        """Return the marks of what was whole, by its path below the home."""
        if self._path is None:
            return {}
        try:
            table = atomic_files.read_sealed(self._path, limit=_MAX_BYTES)
        except (OSError, LightalignError, RecursionError, UnicodeError):
            return {}  # then everything is read again
        marks = table.get("whole") if table.get("version") == _VERSION else None
        if not isinstance(marks, dict):
            return {}
        return {name: mark for name, mark in marks.items() if isinstance(mark, str)}

    def name_of(self, path: Path) -> str:
        """Return the name that the memory has for a file or folder of its home."""
        return os.path.relpath(path, self._home or path.anchor)

    def remember(self, states: Mapping[str, State]) -> None:
        """Record what is whole: by `name_of` each, its state from before it was read.

        Where nothing can be written, nothing is remembered.
        """
        settled = {name: state.mark for name, state in states.items() if state.is_settled}
        if self._path is None or self._home is None or not settled:
            return
        before = self.read()
        whole = {**before, **settled}
        if whole == before:
            return
        there = {name: mark for name, mark in whole.items() if os.path.lexists(self._home / name)}
        # a home may be on a full or read-only disk, or of another user
        with suppress(OSError, LightalignError, UnicodeError):
            self._path.parent.mkdir(exist_ok=True)
            atomic_files.clear_abandoned(self._path.parent)
            atomic_files.write_sealed(self._path, {"version": _VERSION, "whole": there})

    def forget(self) -> None:
        """Remove what is recorded; where that cannot be, nothing will equal it."""
        if self._path is None:
            return
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def home_of(folder: Path, description: StoreDescription) -> Path | None:
    """Return the home that a store's folder lies in, or None for one that stands elsewhere."""
    home = home_of_features(folder)
    return home if home is not None and description.folder(home) == folder.absolute() else None


def memory_of_store(folder: Path, home: Path | None) -> Memory:
    """Return the memory of a store's shards; of one in no home, that of nothing."""
    dataset, split, name = folder.absolute().parts[-3:] if home is not None else ("", "", "")
    return Memory(home, f"{dataset}--{split}--{name}")


def memory_of_indexes(home: Path) -> Memory:
    """Return the memory of the large files of all saved indexes of a home."""
    return Memory(home.absolute(), "indexes")


def promise_of(path: Path) -> dict[str, Any]:
    """Return size and checksum of a file, for a sealed table, as `require` takes it."""
    return {"bytes": path.stat().st_size, "sha256": atomic_files.sha256_file(path)}


def require(
    folder: Path,
    promises: Mapping[str, Mapping[str, Any]],
    memory: Memory | None = None,
    *,
    least: int = LARGE,
) -> None:
    """Pass if each file of a folder has the size and the checksum that it is promised to have.

    Args:
        folder: Folder of the files.
        promises: `promise_of` each file, by name.
        memory: Memory of those that are whole, or None to read all of them.
        least: Bytes from which on a file is remembered.

    Raises:
        StoreCorruptError: A file is missing, is no regular file, or has other bytes.
    """
    memory = memory or Memory(None, "")
    remembered = memory.read()
    whole = {}
    for file_name, promise in promises.items():
        path = folder / file_name
        name = memory.name_of(path.absolute())
        try:
            state = _state_of_regular(path, promise)
            if remembered.get(name) == state.mark:
                continue
            _compare(path, promise["sha256"])
        except PermissionError:
            raise  # it may be whole: nothing is to be done to it
        except OSError as error:
            raise StoreCorruptError(f"cannot read {path}: {error.strerror}") from error
        if promise["bytes"] >= least:
            whole[name] = state
    memory.remember(whole)


def _state_of_regular(path: Path, promise: Mapping[str, Any]) -> State:
    """Return the state of a file that has the promised size.

    Raises:
        StoreCorruptError: It has another one.
        OSError: There is no such regular file.
    """
    with open_regular(path) as file:
        stat = os.fstat(file.fileno())
    if stat.st_size != promise["bytes"]:
        raise StoreCorruptError(f"{path} has {stat.st_size} bytes, not {promise['bytes']}")
    return _state({path.name: promise}, {path.name: stat})


def _compare(path: Path, sha256: str) -> None:
    if atomic_files.sha256_file(path) != sha256:
        raise StoreCorruptError(f"{path} has other bytes than it was written with")
