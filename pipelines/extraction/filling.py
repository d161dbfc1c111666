"""Fill the missing shards of several stores, which other processes may be filling, too."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...featcache.errors import StoreCorruptError, StoreNotFoundError
from ...featcache.store.feature_store import FeatureStore
from ...featcache.store.key import Skipped
from ...featcache.store.locks import MANIFEST_LOCK, ShardLocks, holders
from ...featcache.types import Features
from ..common.progress import Progress
from .outputs import Output
from .prepared_items import check_skipped
from .shard_rows import ShardRows

_WAIT = 0.2  # seconds between looks at shards that another process is writing


@dataclass(kw_only=True)
class StoreJob:
    """Pair one output with the store that holds it; `num_written` items were added to that."""

    output: Output
    store: FeatureStore
    num_written: int = 0


@dataclass
class StageTimes:
    """Count the seconds in which the encoding thread worked or waited.

    Attributes:
        decode: Waiting for decoded and preprocessed items.
        encode: Running encoders.
        write: Waiting for the writer.
    """

    decode: float = 0.0
    encode: float = 0.0
    write: float = 0.0

    def describe(self) -> str:
        """Return the shares in percent, the largest first."""
        total = max(self.decode + self.encode + self.write, 1e-9)
        named = sorted(vars(self).items(), key=lambda pair: -pair[1])
        return ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in named)


@contextmanager
def removals_told(
    stores: Sequence[Path], meanwhile: str = "it was being written"
) -> Iterator[None]:
    """Within the block, a store that another process has removed is an error that names it.

    Raises:
        StoreNotFoundError: It was removed.
    """
    try:
        yield
    # what is removed while it is read may seem damaged first
    except (FileNotFoundError, StoreCorruptError) as error:
        for folder in stores:
            if not folder.is_dir():
                raise StoreNotFoundError(
                    f"{folder} was removed while {meanwhile}: run the same command again"
                ) from error
        raise


@dataclass
class Shard:
    """Collect what becomes one shard of one store."""

    rows: ShardRows
    ids: dict[int, str] = field(default_factory=dict)
    companions: dict[str, list[np.ndarray]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    def features(self, job: StoreJob) -> Features:
        """Return the rows as they are stored."""
        names = job.store.description.companions
        return self.rows.features(self.ids, {name: self.companions[name] for name in names})


class Shards:
    """Collect the same shard of several stores, by folder in `by_store`."""

    def __init__(self, jobs: Sequence[StoreJob]) -> None:
        self.by_store: dict[Path, Shard] = {}
        for job in jobs:
            described = job.store.description
            self.by_store[job.store.folder] = Shard(
                ShardRows(dtype=described.dtype, width=described.width),
                companions={name: [] for name in described.companions},
            )

    def of(self, job: StoreJob) -> Shard:
        """Return that of one store."""
        return self.by_store[job.store.folder]


class Filling(ABC):
    """Fill the missing shards of several stores of the same items, however they are made.

    Shards are shared with other processes by locks, and each is written while the next is made. The
    stores have equal `rows_per_shard`; of one, `max_bad` items may be unreadable.

    Attributes:
        is_derived: Whether the rows are made of stored tokens, and not encoded.
    """

    is_derived: ClassVar[bool] = False

    def __init__(
        self, jobs: Sequence[StoreJob], *, num_items: int, max_bad: int, progress: Progress
    ) -> None:
        self.jobs = jobs
        self.num_items = num_items
        self.max_bad = max_bad
        self.progress = progress
        self.shares = StageTimes()
        self.num_done = 0
        self._locks: dict[Path, ShardLocks] = {}
        self._writing: Future[None] | None = None
        self._bad = {job.store.folder: job.store.skipped() for job in jobs}
        self._waited_for: set[str] = set()

    def run(self) -> None:
        """Make and write shards until none is missing, then complete the stores.

        Raises:
            TooManyBadItemsError: More items are unreadable than allowed.
            FeatureRangeError: A feature is not finite in the stored type.
            LockError: The file system has no locks.
            DatasetChangedError: A file that was there can no longer be read.
            OutOfMemoryError: One item alone needs more memory than there is.
            StoreNotFoundError: A store was removed while it was being written.
        """
        with removals_told([job.store.folder for job in self.jobs]), ExitStack() as stack:
            for job in self.jobs:
                locks = stack.enter_context(ShardLocks(job.store.folder))
                self._locks[job.store.folder] = locks
            writer = stack.enter_context(self._writer())
            while self._missing():
                before = self.num_done
                self._pass(writer)
                # what is left now is being written by other processes
                if before == self.num_done and self._missing():
                    self._wait_for_others()
            for job in self.jobs:
                locks = self._locks[job.store.folder]
                locks.wait_for(MANIFEST_LOCK, self.progress.note)
                job.store.refresh()
                # the last shard may have been another process's, which then completed the store
                if not job.store.complete:
                    job.store.finish()
                locks.release(MANIFEST_LOCK)

    def _writer(self) -> ThreadPoolExecutor:
        """Return the thread in which shards are written."""
        return ThreadPoolExecutor(1)

    def _wait_for_others(self) -> None:
        """Wait a little, and say for whom when that has changed."""
        time.sleep(_WAIT)
        living = {
            f"{path.stem} is being written by {who}, in {path.parent}"
            for job in self.jobs
            for path, who in holders(job.store.folder)
        }
        if living and living != self._waited_for:
            self.progress.note(f"waiting: {'; '.join(sorted(living))}")
        self._waited_for = living

    def _missing(self) -> list[int]:
        for job in self.jobs:
            job.store.refresh()
        return sorted({index for job in self.jobs for index in job.store.missing_shards()})

    @abstractmethod
    def _pass(self, writer: ThreadPoolExecutor) -> None:
        """Make every shard that is missing and that no other process is making."""

    def _claimed(self) -> Iterator[tuple[int, list[StoreJob]]]:
        """Yield each missing shard, when it is asked for, and the stores that it is locked in."""
        for index in self._missing():
            jobs = []
            for job in self.jobs:
                locks = self._locks[job.store.folder]
                if locks.claim(index):
                    # another process may have finished it before the lock was free
                    job.store.refresh()
                    if job.store.has_shard(index):
                        locks.release(index)
                    else:
                        jobs.append(job)
            if jobs:
                yield index, jobs

    def _write(
        self,
        index: int,
        jobs: Sequence[StoreJob],
        shards: Mapping[Path, Shard],
        writer: ThreadPoolExecutor,
    ) -> None:
        self._settle()
        for job in jobs:
            folder = job.store.folder
            self._bad[folder] += shards[folder].skipped
            check_skipped(self._bad[folder], self.num_items, self.max_bad)
        self._writing = writer.submit(self._write_now, index, jobs, shards)

    def _write_now(
        self, index: int, jobs: Sequence[StoreJob], shards: Mapping[Path, Shard]
    ) -> None:
        for job in jobs:
            folder = job.store.folder
            features = shards[folder].features(job)
            job.store.write_shard(index, features, shards[folder].skipped, derived=self.is_derived)
            job.num_written += len(job.store.shard_items(index))
            self._locks[folder].release(index)

    def _settle(self) -> None:
        """Wait for the shard that is being written, and raise what went wrong with it."""
        began = time.perf_counter()
        if self._writing is not None:
            # forgotten before it is asked, so that one failure is raised once
            writing, self._writing = self._writing, None
            writing.result()
        self.shares.write += time.perf_counter() - began
