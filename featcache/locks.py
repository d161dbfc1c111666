"""Locks by which processes that extract into one store share its shards.

A lock is a file `shard-00003.lock` in the store's folder on which its holder has an exclusive
`flock`. The kernel ends that with the process, however the process ends, so a lock of the dead is
a file that nobody holds, and is simply taken over. What the file says is for people and for
`verify`; only the `flock` counts.
"""

import errno
import fcntl
import json
import os
import re
import socket
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from . import files
from .errors import LockError
from .spec import fingerprint

MANIFEST_LOCK = 999_999_999  # stands for the manifest; no store has as many shards
_NAME = re.compile(r"shard-\d{5,}\.lock")
_SHARD = re.compile(r"(?:^|-)shard-(\d{5,})(?:\.h5|\.json)?$")
_WAIT = 0.05  # seconds between two attempts
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}  # what file systems without flock answer


@dataclass(frozen=True, kw_only=True)
class LockHolder:
    """Name the process that holds a lock, as far as it has said so.

    Attributes:
        host: Its machine, or None where the file is empty or damaged.
        pid: Its process id there, or None.
    """

    host: str | None
    pid: int | None

    def __str__(self) -> str:
        if self.host is None:
            return "a process that has not given its name"
        return f"process {self.pid} on {self.host}"


class ShardLocks:
    """Hold the locks of some shards of one store; all are released on leaving the `with` block.

    A forked child holds none of them.

    Args:
        folder: The store's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptors: dict[int, int] = {}
        _LIVING.add(self)

    def __enter__(self) -> "ShardLocks":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for index in list(self._descriptors):
            self.release(index)

    def claim(self, index: int) -> bool:
        """Take the lock of shard `index` without waiting and say whether this object holds it.

        False may pass at once: `holder` and `remove_unheld` touch a lock for a moment to try it.

        Raises:
            LockError: The file system has no locks.
        """
        if index in self._descriptors:
            return True
        path = lock_path(self.folder, index)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            taken = None
            try:
                taken = _take(descriptor, path)
                if taken:
                    self._descriptors[index] = descriptor
            finally:
                if not taken:
                    os.close(descriptor)
            if taken is not None:
                return taken

    def wait_for(self, index: int) -> None:
        """Take the lock of shard `index` as soon as its holder gives it back.

        Raises:
            LockError: The file system has no locks.
        """
        while not self.claim(index):
            time.sleep(_WAIT)

    def release(self, index: int) -> None:
        """Give the lock of shard `index` back; does nothing if this object does not hold it."""
        descriptor = self._descriptors.pop(index, None)
        if descriptor is None:
            return
        try:
            _unlink_held(descriptor, lock_path(self.folder, index))
        finally:
            os.close(descriptor)

    def _forget(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()


_LIVING: "weakref.WeakSet[ShardLocks]" = weakref.WeakSet()


def _forget_in_child() -> None:
    """Close what a fork has copied: else the lock of a dead parent lived on in its child."""
    for locks in list(_LIVING):
        locks._forget()


os.register_at_fork(after_in_child=_forget_in_child)


def lock_path(folder: Path, index: int) -> Path:
    """Return the lock file of shard `index`."""
    return folder / f"shard-{index:05d}.lock"


def lock_files(folder: Path) -> list[Path]:
    """List the lock files in a store's folder, held or not, by name."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def holders(folder: Path) -> Iterator[tuple[Path, LockHolder]]:
    """Iterate over the locks in `folder` that a living process holds.

    Raises:
        LockError: The file system has no locks.
    """
    for path in lock_files(folder):
        found = holder(path)
        if found is not None:
            yield path, found


def holder(path: Path) -> LockHolder | None:
    """Return who holds the lock, or None if nobody does.

    Raises:
        LockError: The file system has no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _try_lock(descriptor, fcntl.LOCK_SH, path):
            return None
        return _read_holder(os.pread(descriptor, 1 << 16, 0))
    finally:
        os.close(descriptor)


def shard_is_written(path: Path) -> bool:
    """Say whether a living process works on the shard that `path`, in a store's folder, is part of.

    Its files, its receipt and the temporaries of both count; of another file it is False.

    Raises:
        LockError: The file system has no locks.
    """
    found = _SHARD.search(path.name)
    return found is not None and holder(lock_path(path.parent, int(found[1]))) is not None


def is_abandoned(path: Path) -> bool:
    """Say whether `path`, in a store's folder, is a temporary that nobody writes any more.

    Of a shard its lock tells, which holds on every machine and in every container; of other files
    the name of the writer.

    Raises:
        LockError: The file system has no locks.
    """
    if not files.is_temporary(path):
        return False
    if _SHARD.search(path.name):
        return not shard_is_written(path)
    return files.is_abandoned(path)


def lock_damage(path: Path) -> str | None:
    """Say what is wrong with the content of a lock file; None if it is whole or gone.

    An empty one is whole: its holder has yet to write its name, or died before.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if not content or content == _content(_read_holder(content)):
        return None
    return "checksum differs"


def remove_unheld(folder: Path) -> list[str]:
    """Remove the lock files that nobody holds, and return their names.

    Raises:
        LockError: The file system has no locks.
    """
    return [path.name for path in lock_files(folder) if _remove_unheld(path)]


def _take(descriptor: int, path: Path) -> bool | None:
    """Lock the open file and write our name; return None where it is to be opened once more."""
    if not _try_lock(descriptor, fcntl.LOCK_EX, path):
        return False
    if not _is_at(descriptor, path):
        return None  # unlinked since it was opened: a lock on it would lock nobody out
    if os.fstat(descriptor).st_size:
        path.unlink()  # of the dead: begun anew, so that no reader sees a mixture of two contents
        return None
    os.write(descriptor, _content(LockHolder(host=socket.gethostname(), pid=os.getpid())))
    return True


def _remove_unheld(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return _try_lock(descriptor, fcntl.LOCK_EX, path) and _unlink_held(descriptor, path)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise LockError(
                f"cannot lock {path}: its file system has no locks ({error.strerror}); "
                "put the home folder on another one"
            ) from error
        raise
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _unlink_held(descriptor: int, path: Path) -> bool:
    """Unlink `path` unless another file has come there; the caller holds the lock."""
    here = _is_at(descriptor, path)
    if here:
        path.unlink()
    return here


def _content(named: LockHolder) -> bytes:
    table: dict[str, Any] = {"host": named.host, "pid": named.pid}
    table["checksum"] = fingerprint(table)
    return (json.dumps(table, sort_keys=True) + "\n").encode()


def _read_holder(content: bytes) -> LockHolder:
    nobody = LockHolder(host=None, pid=None)
    try:
        table = json.loads(content)
        host, pid = table["host"], table["pid"]
    except (ValueError, KeyError, TypeError):
        return nobody
    if not (isinstance(host, str) and isinstance(pid, int)):
        return nobody
    named = LockHolder(host=host, pid=pid)
    return named if content == _content(named) else nobody
