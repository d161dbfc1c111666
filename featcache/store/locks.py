"""Locks by which processes that extract into one store share its shards, and a split its stores.

The lock of a shard is a file `shard-00003.lock` in the store's folder, that of a split is
`split.lock` beside its stores: whoever begins or removes one of them holds it, and so does whoever
writes or removes the pairs that they share. See `file_locks`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from .. import atomic_files, file_locks
from ..file_locks import FileLock, LockHolder, holder

SPLIT_LOCK = "split.lock"
MANIFEST_LOCK = 999_999_999  # stands for the manifest; no store has as many shards
_NAME = re.compile(r"shard-\d{5,}\.lock")
_SHARD = re.compile(r"(?:^|-)shard-(\d{5,})(?:\.h5|\.json)?$")


class ShardLocks(AbstractContextManager["ShardLocks", None]):
    """Locks of some shards of one store; all are released on leaving the `with` block.

    A forked child holds none of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._locks: dict[int, FileLock] = {}

    def __exit__(self, *_: object) -> None:
        for index in list(self._locks):
            self.release(index)

    def claim(self, index: int) -> bool:
        """Take the lock of shard `index` without waiting; see `FileLock.claim`."""
        return self._lock(index).claim()

    def wait_for(self, index: int, tell: Callable[[str], None] | None = None) -> None:
        """Take the lock of shard `index` as soon as its holder gives it back; see `FileLock.wait`.

        Raises:
            FileNotFoundError: The store is no longer there.
        """
        self._lock(index).wait(tell)

    def release(self, index: int) -> None:
        """Give the lock of shard `index` back; does nothing if this object does not hold it."""
        lock = self._locks.pop(index, None)
        if lock is not None:
            lock.release()

    def _lock(self, index: int) -> FileLock:
        return self._locks.setdefault(index, FileLock(lock_path(self.folder, index)))


@contextmanager
def owning_split(folder: Path, tell: Callable[[str], None] | None = None) -> Iterator[None]:
    """Own the lock of a split's folder, which is made first and removed last if it is empty.

    Where another process holds it, `tell` is told; see `FileLock.wait`.
    """
    lock = FileLock(folder / SPLIT_LOCK)
    while not lock.held:
        # another process removes the folder while it is empty
        with suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            lock.wait(tell)
    try:
        with lock:
            yield
    finally:
        # that of the dataset too, where this was its only split
        for empty in (folder, folder.parent):
            atomic_files.remove_empty(empty)


def lock_path(folder: Path, index: int) -> Path:
    """Return the lock file of shard `index`."""
    return folder / f"shard-{index:05d}.lock"


def lock_files(folder: Path) -> list[Path]:
    """List the lock files in a store's folder, held or not, by name."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def holders(folder: Path) -> Iterator[tuple[Path, LockHolder]]:
    """Iterate over the locks in `folder` that a living process holds."""
    for path in lock_files(folder):
        lock_holder = holder(path)
        if lock_holder is not None:
            yield path, lock_holder


def shard_is_written(path: Path) -> bool:
    """Return whether a living process works on the shard that a store's file `path` is part of.

    Its files, its receipt and the temporaries of both count; of another file it is False.
    """
    match = _SHARD.search(path.name)
    return match is not None and holder(lock_path(path.parent, int(match[1]))) is not None


def is_abandoned(path: Path) -> bool:
    """Return whether `path`, in a store's folder, is a temporary that nobody writes any more.

    Its owner's lock tells, which holds on every machine and in every container; of a shard that an
    earlier version was writing, the lock of the shard.
    """
    return atomic_files.is_abandoned(path) and not shard_is_written(path)


def remove_unheld(folder: Path) -> list[str]:
    """Remove the lock files of shards that nobody holds, and return their names."""
    return [path.name for path in lock_files(folder) if file_locks.remove_unheld(path)]
