"""Fill the stores of one split from one pass over its items, shard by shard."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Lock

import numpy as np

from ...featcache.errors import DatasetChangedError, MissingFileError, UnreadableItemError
from ...featcache.modalities import reader_of
from ...featcache.types import Item
from ...featcache.views import ViewItem
from ..common.prefetch import prefetch
from ..common.progress import Progress
from .filling import Filling, Shard, Shards, StoreJob
from .out_of_memory import encode_within_memory
from .prepared_items import PreparedItem, batches_of
from .threads import lower_thread_priority, threads_kept, use_one_thread


class ShardWriter(Filling):
    """Fill the missing shards of several stores by encoding their items.

    A batch never crosses the end of a shard, so that a shard that is written again sees the same
    batches and gets the same bytes.

    Args:
        jobs: Stores of equal `rows_per_shard`, and what goes into them; all or none are of a view.
        items: Items of the split, or the rows of its view.
        batch_size: Items per forward pass.
        workers: Threads that decode and tokenise; 0 does it in the encoding thread.
        max_bad: Items of one store that may be unreadable.
        overlap: Whether to prepare items while encoders run, not between their batches only.
        unchanged: Says whether the files of the dataset still are those of the stores' key.
        progress: Receives the progress.
    """

    def __init__(
        self,
        jobs: Sequence[StoreJob],
        items: Sequence[Item],
        *,
        batch_size: int,
        workers: int,
        max_bad: int,
        overlap: bool,
        unchanged: Callable[[], bool],
        progress: Progress,
    ) -> None:
        super().__init__(jobs, num_items=len(items), max_bad=max_bad, progress=progress)
        self.items = items
        self.batch_size = batch_size
        self.workers = workers
        self.overlap = overlap
        self.unchanged = unchanged
        self._reader = reader_of(jobs[0].output.encoder.modality)
        self._view = jobs[0].output.view
        self._encoders = {job.output.encoder.name: job.output.encoder for job in jobs}
        self._fitting = {name: batch_size for name in self._encoders}
        self._may_prepare = Event()
        self._may_prepare.set()
        self._absent: set[str] = set()
        self._absent_lock = Lock()

    def _writer(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, initializer=None if self.overlap else lower_thread_priority)

    def _pass(self, writer: ThreadPoolExecutor) -> None:
        # items of the next batch are prepared while one is encoded, but no batch crosses the end of
        # a shard; where items are sorted by length within a shard, all of the next one are
        rows = self.jobs[0].store.description.rows_per_shard
        ahead = rows if self._reader.sorted_by_length else min(self.batch_size, rows)
        # filled as positions are asked for, so in the order in which prepared items come back
        claimed: deque[tuple[int, list[StoreJob]]] = deque()
        ready = prefetch(
            self._prepare,
            self._claimed_positions(claimed),
            ahead=ahead + self.workers,
            workers=self.workers,
            initializer=use_one_thread,
        )
        with closing(ready), threads_kept():
            while (first := self._next(ready)) is not None:
                index, jobs = claimed.popleft()
                self._write(index, jobs, self._encode_shard(index, jobs, first, ready), writer)
        self._settle()

    def _claimed_positions(self, claimed: deque[tuple[int, list[StoreJob]]]) -> Iterator[int]:
        """Yield the items of each missing shard that no other process is writing."""
        for index, jobs in self._claimed():
            claimed.append((index, jobs))
            yield from jobs[0].store.shard_items(index)

    def _next(self, ready: Iterator[PreparedItem]) -> PreparedItem | None:
        began = time.perf_counter()
        prepared = next(ready, None)
        self.shares.decode += time.perf_counter() - began
        return prepared

    def _prepare(self, position: int) -> PreparedItem:
        self._may_prepare.wait()
        item = self.items[position]
        prepared = PreparedItem(item)
        try:
            content = self._reader.read(item)
            if self._view is not None:
                assert isinstance(item, ViewItem)
                content = self._view.change(content, item)
        except UnreadableItemError as error:
            # the key stands for the files as they were: a row less would be another dataset's
            if isinstance(error, MissingFileError) and not self._was_absent(item):
                raise DatasetChangedError(
                    f"{error}, though it was there when extraction began: put it back, or run the "
                    "same command again to extract what is there now"
                ) from error
            prepared.errors = dict.fromkeys(self._encoders, prepared.skipped(error, stage="read"))
            return prepared
        for encoder in self._encoders.values():
            prepared.read(encoder, content, self._view)
        return prepared

    def _was_absent(self, item: Item) -> bool:
        """Return whether `item` had no file in the dataset that the stores' key stands for."""
        with self._absent_lock:
            # sizes are in the fingerprint: while it is the same, what is missing was so before
            if item.id not in self._absent and self.unchanged():
                self._absent = {candidate.id for candidate in self.items if candidate.missing()}
            return item.id in self._absent

    def _encode_shard(
        self,
        index: int,
        jobs: Sequence[StoreJob],
        first: PreparedItem,
        ready: Iterator[PreparedItem],
    ) -> dict[Path, Shard]:
        """Return the rows of one shard by store."""
        count = len(jobs[0].store.shard_items(index))
        shard = Shards(jobs)
        # all texts, say, of a shard are sorted by length, then cut into batches
        size = count if self._reader.sorted_by_length else self.batch_size
        chunk: list[tuple[int, PreparedItem]] = []
        for position in range(count):
            prepared = first if position == 0 else self._next(ready)
            assert prepared is not None, "as many items are prepared as were claimed"
            chunk.append((position, prepared))
            if len(chunk) == size or position == count - 1:
                self._encode_chunk(jobs, chunk, shard)
                chunk = []
        return shard.by_store

    def _encode_chunk(
        self, jobs: Sequence[StoreJob], chunk: Sequence[tuple[int, PreparedItem]], shard: Shards
    ) -> None:
        for name in dict.fromkeys(job.output.encoder.name for job in jobs):
            encoder_jobs = [job for job in jobs if job.output.encoder.name == name]
            readable = []
            for position, prepared in chunk:
                _note(shard, encoder_jobs, position, prepared, name)
                if name not in prepared.errors:
                    readable.append((position, prepared))
            for batch in batches_of(self._encoders[name], readable, self.batch_size):
                began = time.perf_counter()
                with self._alone():
                    self._encode_batch(encoder_jobs, name, batch, shard)
                self.shares.encode += time.perf_counter() - began
        self.num_done += len(chunk)
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
        jobs: Sequence[StoreJob],
        name: str,
        batch: Sequence[Sequence[tuple[int, PreparedItem]]],
        shard: Shards,
    ) -> None:
        """Encode one item of each group of equal items, and take its rows for all of them."""
        # one forward pass gives the layers of all stores
        layers = sorted({job.output.layer_read for job in jobs})
        prepared = [group[0][1].prepared[name] for group in batch]
        encoded = encode_within_memory(self._encoders[name], prepared, layers, self._fitting)
        by_layer = dict(zip(layers, encoded, strict=True))
        sources = np.repeat(np.arange(len(batch)), [len(group) for group in batch])
        targets = np.array([position for group in batch for position, _ in group], dtype=np.int64)
        for job in jobs:
            output = job.output
            reduced = output.kind.reduce(by_layer[output.layer_read], output.layout)
            shard.of(job).rows.add(reduced, sources=sources, targets=targets)


def _note(
    shard: Shards, jobs: Sequence[StoreJob], position: int, item: PreparedItem, name: str
) -> None:
    """Take the id and companions of an item into a shard, or why it has no row."""
    skipped = item.errors.get(name)
    for job_shard in map(shard.of, jobs):
        if skipped is not None:
            job_shard.skipped.append(skipped)
            continue
        job_shard.ids[position] = item.item.id
        for companion, rows in job_shard.companions.items():
            rows.append(item.companions[name][companion])
