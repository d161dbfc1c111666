"""Exclusive locks on files, which the kernel ends with the process that holds them.

A lock is a file on which its holder has an exclusive `flock`. The kernel ends that with the
process, however the process ends, so a lock of the dead is a file that nobody holds, and is simply
taken over. What the file says is for people and for `verify`; only the `flock` counts. On a file
system without locks whatever takes one, or looks who has it, raises `LockError`.
"""

import errno
import fcntl
import json
import os
import socket
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .config import fingerprint
from .errors import LockError
from .regular_files import read_regular
from .writing import naming

# what file systems without flock answer; EINVAL and ENOLCK come from some that are on a network
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF}
_MOST_BYTES = 1 << 16  # of a lock file; ours have a hundred
_WAIT = 0.05  # seconds between two attempts
PATIENCE = 10.0  # seconds of waiting after which it is said for whom


@dataclass(frozen=True, kw_only=True)
class LockHolder:
    """Process that holds a lock, as far as it has given its name.

    Attributes:
        host: Its machine, or None where the file is empty or damaged.
        pid: Its number there, or None.
        since: When it took the lock, in seconds since the epoch, or None.
    """

    host: str | None
    pid: int | None
    since: float | None = None

    def __str__(self) -> str:
        if self.host is None:
            return "a process that has not given its name"
        named = f"process {self.pid} on {self.host}"
        if self.since is None:
            return named
        return f"{named} since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self.since))}"


class FileLock(AbstractContextManager["FileLock", None]):
    """Exclusive lock on one file, which is removed on release; a forked child does not hold it.

    Its folder is there, and only lock holders write to the file. Whoever moves the folder of a lock
    that is held sets `path` anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        _LIVING.add(self)

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def held(self) -> bool:
        """Return whether this object holds the lock."""
        return self._descriptor is not None

    def claim(self) -> bool:
        """Take the lock without waiting, and return whether this object holds it.

        False may pass at once: `holder` and `remove_unheld` touch a lock for a moment to try it.

        Raises:
            FileNotFoundError: The folder of the lock is not there.
        """
        while self._descriptor is None:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                if not try_lock(descriptor, fcntl.LOCK_EX, self.path):
                    return False
                if _write_holder(descriptor, self.path):
                    self._descriptor = descriptor
            finally:
                if self._descriptor != descriptor:
                    os.close(descriptor)
        return True

    def wait(self, tell: Callable[[str], None] | None = None) -> None:
        """Take the lock as soon as its holder gives it back.

        After some seconds `tell` is told once who holds the lock, where, and since when.

        Raises:
            FileNotFoundError: The folder of the lock is not there.
        """
        late = time.monotonic() + PATIENCE
        while not self.claim():
            if tell is not None and time.monotonic() > late:
                who = holder(self.path)
                if who is not None:
                    tell(f"waiting: {self.path} is held by {who}")
                    tell = None
            time.sleep(_WAIT)

    def release(self) -> None:
        """Give the lock back and remove its file; does nothing if this object does not hold it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        # while it is held: later, the file of the next holder could be removed
        try:
            _unlink_held(descriptor, self.path)
        finally:
            os.close(descriptor)

    def forget(self) -> None:
        """Close the file without releasing the lock of the process that was forked."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_LIVING: "weakref.WeakSet[FileLock]" = weakref.WeakSet()


def _forget_in_child() -> None:
    """Close what a fork has copied: else the lock of a dead parent lived on in its child."""
    for lock in list(_LIVING):
        lock.forget()


os.register_at_fork(after_in_child=_forget_in_child)


def holder(path: Path) -> LockHolder | None:
    """Return who holds the lock, or None if nobody does."""
    with _open(path, os.O_RDONLY) as descriptor:
        if descriptor is None or try_lock(descriptor, fcntl.LOCK_SH, path):
            return None
        return _read_holder(os.pread(descriptor, _MOST_BYTES, 0))


def lock_damage(path: Path) -> str | None:
    """Return what is wrong with the content of a lock file; None if it is whole or gone.

    An empty one is whole: its holder has yet to write its name, or died before.
    """
    try:
        content = read_regular(path, limit=_MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not content or content == _content(_read_holder(content)):
        return None
    return "checksum differs"


def remove_unheld(path: Path) -> bool:
    """Remove a lock file that nobody holds, and return whether it was removed."""
    with _open(path, os.O_RDWR) as descriptor:
        return (
            descriptor is not None
            and try_lock(descriptor, fcntl.LOCK_EX, path)
            and _unlink_held(descriptor, path)
        )


@contextmanager
def _open(path: Path, mode: int) -> Iterator[int | None]:
    """Open a lock file that may be gone, or be a pipe that nobody writes to."""
    try:
        descriptor = os.open(path, mode | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, kind: int, path: Path) -> bool:
    """Lock a file, by `LOCK_SH` or `LOCK_EX`, without waiting; return whether that is done."""
    try:
        with naming(path):
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise LockError(
            f"cannot lock {path}: its file system has no locks ({error.strerror}); "
            "put the folder on another one"
        ) from error
    return True


def _write_holder(descriptor: int, path: Path) -> bool:
    """Write our name into a locked file, and return whether that is the lock from now on."""
    # unlinked since it was opened: a lock on it would lock nobody out
    if not _is_at(descriptor, path):
        return False
    # of the dead: begun anew, so that no reader sees a mixture of two contents
    if os.fstat(descriptor).st_size:
        path.unlink()
        return False
    ours = LockHolder(host=socket.gethostname(), pid=os.getpid(), since=float(int(time.time())))
    try:
        with naming(path):
            os.write(descriptor, _content(ours))
    except OSError:
        path.unlink()  # a full disk: a lock that was never ours is not left behind
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
    # locks of earlier versions do not say since when
    table = {name: value for name, value in vars(named).items() if value is not None}
    return (json.dumps({**table, "checksum": fingerprint(table)}, sort_keys=True) + "\n").encode()


def _read_holder(content: bytes) -> LockHolder:
    nobody = LockHolder(host=None, pid=None)
    try:
        table = json.loads(content)
        host, pid, since = table["host"], table["pid"], table.get("since")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return nobody
    if not (isinstance(host, str) and isinstance(pid, int) and isinstance(since, float | None)):
        return nobody
    named = LockHolder(host=host, pid=pid, since=since)
    return named if content == _content(named) else nobody
