"""Fill the stores of one split from one pass over its items, shard by shard."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np

from ..featcache.description import Skipped
from ..featcache.encoder import read_item
from ..featcache.errors import (
    DatasetChangedError,
    MissingFileError,
    StoreNotFoundError,
    UnreadableItemError,
)
from ..featcache.locks import MANIFEST_LOCK, ShardLocks, holders
from ..featcache.source import readable_size
from ..featcache.store import FeatureStore
from ..featcache.types import Item, Modality
from .ahead import map_ahead
from .collect import ShardRows
from .cores import compute_alone, give_way, threads_kept
from .memory import encode_within_memory
from .outputs import Output
from .progress import Progress
from .ready import Ready, batches_of, check_bad

_WAIT = 0.2  # seconds between looks at shards that another process is writing


@dataclass(frozen=True, kw_only=True)
class Job:
    """Pair one output with the store that holds it."""

    output: Output
    store: FeatureStore


@dataclass
class Shares:
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
def removals_told(stores: Sequence[Path]) -> Iterator[None]:
    """Within the block, a store that another process has removed is an error that names it.

    Raises:
        StoreNotFoundError: It was removed.
    """
    try:
        yield
    except FileNotFoundError as error:
        for folder in stores:
            if not folder.is_dir():
                raise StoreNotFoundError(
                    f"{folder} was removed while it was being written: run the same command again"
                ) from error
        raise


class Extraction:
    """Fill the missing shards of several stores that read the same items.

    Shards are shared with other processes by locks. A batch never crosses the end of a shard, so a
    shard that is written again sees the same batches and gets the same bytes.

    Args:
        jobs: Stores of equal `rows_per_shard`, and what goes into them.
        items: Items of the split.
        batch_size: Items per forward pass.
        workers: Threads that decode and tokenise; 0 does it in the encoding thread.
        max_bad: Items of one store that may be unreadable.
        overlap: Whether to prepare items while encoders run, not between their batches only.
        unchanged: Says whether the files of the dataset still are those of the stores' key.
        progress: Receives the progress.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        items: Sequence[Item],
        *,
        batch_size: int,
        workers: int,
        max_bad: int,
        overlap: bool,
        unchanged: Callable[[], bool],
        progress: Progress,
    ) -> None:
        self.jobs = jobs
        self.items = items
        self.batch_size = batch_size
        self.workers = workers
        self.max_bad = max_bad
        self.overlap = overlap
        self.unchanged = unchanged
        self.progress = progress
        self.shares = Shares()
        self.num_encoded = 0
        self.num_written = {job.store.folder: 0 for job in jobs}
        self._encoders = {job.output.encoder.name: job.output.encoder for job in jobs}
        self._fitting = {name: batch_size for name in self._encoders}
        self._locks: dict[Path, ShardLocks] = {}
        self._writing: Future[None] | None = None
        self._bad = {job.store.folder: job.store.skipped() for job in jobs}
        self._waited_for: set[str] = set()
        self._may_prepare = Event()
        self._may_prepare.set()
        self._absent: set[str] = set()
        self._absent_lock = Lock()

    def run(self) -> None:
        """Encode and write until no shard is missing, then complete the stores.

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
            writer = ThreadPoolExecutor(1, initializer=None if self.overlap else give_way)
            self._fill(stack.enter_context(writer))
            for job in self.jobs:
                self._finish(job)

    def _fill(self, writer: ThreadPoolExecutor) -> None:
        while self._missing():
            encoded = self.num_encoded
            self._pass(writer)
            if encoded == self.num_encoded and self._missing():
                # what is left is being written by other processes
                self._wait_for_others()

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

    def _pass(self, writer: ThreadPoolExecutor) -> None:
        claimed: deque[tuple[int, list[Job]]] = deque()
        ready = map_ahead(
            self._prepare,
            self._claimed_positions(claimed),
            ahead=self._ahead(),
            workers=self.workers,
            initializer=compute_alone,
        )
        with closing(ready), threads_kept():
            while (first := self._next(ready)) is not None:
                index, jobs = claimed.popleft()
                self._write(index, jobs, self._encode_shard(index, jobs, first, ready), writer)
        self._settle()

    def _ahead(self) -> int:
        """Return how many items to prepare while others are encoded: those of the next batch.

        Texts are sorted by length within a shard, so that all of the next shard are.
        """
        rows = self.jobs[0].store.description.rows_per_shard
        if self.jobs[0].output.encoder.modality is Modality.TEXT:
            return rows + self.workers
        return min(self.batch_size, rows) + self.workers  # no batch crosses the end of a shard

    def _claimed_positions(self, claimed: deque[tuple[int, list[Job]]]) -> Iterator[int]:
        """Yield the items of each missing shard that no other process is writing."""
        for index in self._missing():
            jobs = [job for job in self.jobs if self._claim(job, index)]
            if jobs:
                claimed.append((index, jobs))
                yield from jobs[0].store.shard_items(index)

    def _claim(self, job: Job, index: int) -> bool:
        locks = self._locks[job.store.folder]
        if not locks.claim(index):
            return False
        job.store.refresh()  # another process may have finished it before the lock was free
        if not job.store.has_shard(index):
            return True
        locks.release(index)
        return False

    def _next(self, ready: Iterator[Ready]) -> Ready | None:
        began = time.perf_counter()
        found = next(ready, None)
        self.shares.decode += time.perf_counter() - began
        return found

    def _prepare(self, position: int) -> Ready:
        self._may_prepare.wait()
        item = self.items[position]
        found = Ready(item)
        modality = self.jobs[0].output.encoder.modality
        try:
            content = read_item(item, modality)
        except MissingFileError as error:
            if not self._was_absent(item):
                raise DatasetChangedError(
                    f"{error}, though it was there when extraction began: put it back, or run the "
                    "same command again to extract what is there now"
                ) from error
            found.errors = dict.fromkeys(self._encoders, found.skipped(error, stage="read"))
            return found
        except UnreadableItemError as error:
            found.errors = dict.fromkeys(self._encoders, found.skipped(error, stage="read"))
            return found
        for encoder in self._encoders.values():
            found.read(encoder, content)
        return found

    def _was_absent(self, item: Item) -> bool:
        """Say whether the key of the stores stands for a dataset without the file of `item`."""
        with self._absent_lock:
            if item.id not in self._absent and self.unchanged():
                missing = (one for one in self.items if one.path and readable_size(one) < 0)
                self._absent = {one.id for one in missing}
            return item.id in self._absent

    def _encode_shard(
        self, index: int, jobs: Sequence[Job], first: Ready, ready: Iterator[Ready]
    ) -> dict[Path, "_Shard"]:
        """Return the rows of one shard by store."""
        count = len(jobs[0].store.shard_items(index))
        shard = _Shards(jobs)
        is_text = jobs[0].output.encoder.modality is Modality.TEXT
        size = count if is_text else self.batch_size  # texts are sorted by length first
        chunk: list[tuple[int, Ready]] = []
        for position in range(count):
            found = first if position == 0 else self._next(ready)
            assert found is not None, "as many items are prepared as were claimed"
            chunk.append((position, found))
            if len(chunk) == size or position == count - 1:
                self._encode_chunk(jobs, chunk, shard)
                chunk = []
        return shard.by_store

    def _encode_chunk(
        self, jobs: Sequence[Job], chunk: Sequence[tuple[int, Ready]], shard: "_Shards"
    ) -> None:
        for name in dict.fromkeys(job.output.encoder.name for job in jobs):
            own = [job for job in jobs if job.output.encoder.name == name]
            for position, found in chunk:
                shard.note(own, position, found, name)
            readable = [(position, found) for position, found in chunk if name not in found.errors]
            for batch in batches_of(self._encoders[name], readable, self.batch_size):
                began = time.perf_counter()
                with self._alone():
                    self._encode_batch(own, name, batch, shard)
                self.shares.encode += time.perf_counter() - began
        self.num_encoded += len(chunk)
        self.progress.advance(len(chunk))
        self.progress.detail(self.shares.describe())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no thread begin to prepare an item within the block, unless they may overlap."""
        if not self.overlap:
            self._may_prepare.clear()
        try:
            yield
        finally:
            self._may_prepare.set()

    def _encode_batch(
        self,
        jobs: Sequence[Job],
        name: str,
        batch: Sequence[Sequence[tuple[int, Ready]]],
        shard: "_Shards",
    ) -> None:
        """Encode one item of each group of equal items, and take its rows for all of them."""
        layers = sorted({job.output.layer_read for job in jobs})
        prepared = [group[0][1].prepared[name] for group in batch]
        encoded = encode_within_memory(self._encoders[name], prepared, layers, self._fitting)
        found = dict(zip(layers, encoded, strict=True))
        sources = np.repeat(np.arange(len(batch)), [len(group) for group in batch])
        targets = np.array([position for group in batch for position, _ in group], dtype=np.int64)
        for job in jobs:
            output = job.output
            reduced = output.kind.reduce(found[output.layer_read], output.layout)
            shard.rows(job).add(reduced, sources=sources, targets=targets)

    def _write(
        self,
        index: int,
        jobs: Sequence[Job],
        shards: Mapping[Path, "_Shard"],
        writer: ThreadPoolExecutor,
    ) -> None:
        self._settle()
        for job in jobs:
            folder = job.store.folder
            self._bad[folder] += shards[folder].skipped
            check_bad(self._bad[folder], len(self.items), self.max_bad)
        self._writing = writer.submit(self._write_now, index, jobs, shards)

    def _write_now(self, index: int, jobs: Sequence[Job], shards: Mapping[Path, "_Shard"]) -> None:
        for job in jobs:
            folder = job.store.folder
            features = shards[folder].features(job)
            job.store.write_shard(index, features, shards[folder].skipped)
            self.num_written[folder] += len(job.store.shard_items(index))
            self._locks[folder].release(index)

    def _settle(self) -> None:
        """Wait for the shard that is being written, and raise what went wrong with it."""
        began = time.perf_counter()
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()
        self.shares.write += time.perf_counter() - began

    def _finish(self, job: Job) -> None:
        locks = self._locks[job.store.folder]
        locks.wait_for(MANIFEST_LOCK, self.progress.note)
        job.store.refresh()
        if not job.store.complete:
            job.store.finish()
        locks.release(MANIFEST_LOCK)


@dataclass
class _Shard:
    """Collect what becomes one shard of one store."""

    rows: ShardRows
    ids: dict[int, str] = field(default_factory=dict)
    companions: dict[str, list[np.ndarray]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    def features(self, job: Job) -> Any:
        names = job.store.description.companions
        return self.rows.features(self.ids, {name: self.companions[name] for name in names})


class _Shards:
    """Collect the same shard of several stores."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.by_store = {
            job.store.folder: _Shard(
                ShardRows(dtype=job.store.description.dtype, width=job.store.description.width),
                companions={name: [] for name in job.store.description.companions},
            )
            for job in jobs
        }

    def rows(self, job: Job) -> ShardRows:
        """Return where the rows of one store are collected."""
        return self.by_store[job.store.folder].rows

    def note(self, jobs: Sequence[Job], position: int, found: Ready, name: str) -> None:
        """Take the id and companions of an item, or why it has no row."""
        for job in jobs:
            shard = self.by_store[job.store.folder]
            skipped = found.errors.get(name)
            if skipped is not None:
                shard.skipped.append(skipped)
                continue
            shard.ids[position] = found.item.id
            for companion, rows in shard.companions.items():
                rows.append(found.companions[name][companion])
