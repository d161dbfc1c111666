"""Fill the stores of one split from one pass over its items, shard by shard."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..featcache.description import Skipped
from ..featcache.encoder import Content, Encoder, read_item
from ..featcache.errors import TooManyBadItemsError, UnreadableItemError
from ..featcache.locks import MANIFEST_LOCK, ShardLocks
from ..featcache.store import FeatureStore
from ..featcache.tokens import Tokens
from ..featcache.types import Item, Modality
from .ahead import map_ahead
from .collect import ShardRows
from .outputs import Output
from .progress import Progress

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


@dataclass
class _Ready:
    """Hold one item as the encoders read it, or why it cannot be read."""

    item: Item
    prepared: dict[str, Any] = field(default_factory=dict)
    companions: dict[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    errors: dict[str, UnreadableItemError] = field(default_factory=dict)

    def read(self, encoder: Encoder[Any], content: Content) -> None:
        """Prepare the content for one encoder."""
        try:
            self.prepared[encoder.name] = encoder.preprocess(content, item_id=self.item.id)
        except UnreadableItemError as error:
            self.errors[encoder.name] = error
            return
        if encoder.companion_names:
            self.companions[encoder.name] = encoder.companions(content)


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
        progress: Progress,
    ) -> None:
        self.jobs = jobs
        self.items = items
        self.batch_size = batch_size
        self.workers = workers
        self.max_bad = max_bad
        self.progress = progress
        self.shares = Shares()
        self.num_encoded = 0
        self._encoders = {job.output.encoder.name: job.output.encoder for job in jobs}
        self._locks: dict[str, ShardLocks] = {}
        self._writing: Future[None] | None = None
        self._bad = {job.store.manifest["key"]: job.store.skipped() for job in jobs}

    def run(self) -> None:
        """Encode and write until no shard is missing, then complete the stores.

        Raises:
            TooManyBadItemsError: More items are unreadable than allowed.
            FeatureRangeError: A feature is not finite in the stored type.
            LockError: The file system has no locks.
        """
        with ExitStack() as stack:
            for job in self.jobs:
                locks = stack.enter_context(ShardLocks(job.store.folder))
                self._locks[job.store.manifest["key"]] = locks
            writer = stack.enter_context(ThreadPoolExecutor(1))
            while self._missing():
                encoded = self.num_encoded
                self._pass(writer)
                if encoded == self.num_encoded and self._missing():
                    time.sleep(_WAIT)  # what is left is being written by another process
            for job in self.jobs:
                self._finish(job)

    def _missing(self) -> list[int]:
        for job in self.jobs:
            job.store.refresh()
        return sorted({index for job in self.jobs for index in job.store.missing_shards()})

    def _pass(self, writer: ThreadPoolExecutor) -> None:
        claimed: deque[tuple[int, list[Job]]] = deque()
        ready = map_ahead(
            self._prepare,
            self._claimed_positions(claimed),
            ahead=self.batch_size + self.workers,  # decode the next batch while one is encoded
            workers=self.workers,
        )
        with closing(ready):
            while (first := self._next(ready)) is not None:
                index, jobs = claimed.popleft()
                self._write(index, jobs, self._encode_shard(index, jobs, first, ready), writer)
        self._settle()

    def _claimed_positions(self, claimed: deque[tuple[int, list[Job]]]) -> Iterator[int]:
        """Yield the items of each missing shard that no other process is writing."""
        for index in self._missing():
            jobs = [job for job in self.jobs if self._claim(job, index)]
            if jobs:
                claimed.append((index, jobs))
                yield from jobs[0].store.shard_items(index)

    def _claim(self, job: Job, index: int) -> bool:
        locks = self._locks[job.store.manifest["key"]]
        if not locks.claim(index):
            return False
        job.store.refresh()  # another process may have finished it before the lock was free
        if not job.store.has_shard(index):
            return True
        locks.release(index)
        return False

    def _next(self, ready: Iterator[_Ready]) -> _Ready | None:
        began = time.perf_counter()
        found = next(ready, None)
        self.shares.decode += time.perf_counter() - began
        return found

    def _prepare(self, position: int) -> _Ready:
        item = self.items[position]
        found = _Ready(item)
        modality = self.jobs[0].output.encoder.modality
        try:
            content = read_item(item, modality)
        except UnreadableItemError as error:
            found.errors = dict.fromkeys(self._encoders, error)
            return found
        for encoder in self._encoders.values():
            found.read(encoder, content)
        return found

    def _encode_shard(
        self, index: int, jobs: Sequence[Job], first: _Ready, ready: Iterator[_Ready]
    ) -> dict[str, "_Shard"]:
        """Return the rows of one shard by store key."""
        count = len(jobs[0].store.shard_items(index))
        shard = _Shards(jobs)
        is_text = jobs[0].output.encoder.modality is Modality.TEXT
        size = count if is_text else self.batch_size  # texts are sorted by length first
        chunk: list[tuple[int, _Ready]] = []
        for position in range(count):
            found = first if position == 0 else self._next(ready)
            assert found is not None, "as many items are prepared as were claimed"
            chunk.append((position, found))
            if len(chunk) == size or position == count - 1:
                self._encode_chunk(jobs, chunk, shard)
                chunk = []
        return shard.by_key

    def _encode_chunk(
        self, jobs: Sequence[Job], chunk: Sequence[tuple[int, _Ready]], shard: "_Shards"
    ) -> None:
        for name in dict.fromkeys(job.output.encoder.name for job in jobs):
            own = [job for job in jobs if job.output.encoder.name == name]
            for position, found in chunk:
                shard.note(own, position, found, name)
            readable = [(position, found) for position, found in chunk if name not in found.errors]
            for batch in _batches(self._encoders[name], readable, self.batch_size):
                began = time.perf_counter()
                self._encode_batch(own, name, batch, shard)
                self.shares.encode += time.perf_counter() - began
        self.num_encoded += len(chunk)
        self.progress.advance(len(chunk))
        self.progress.detail(self.shares.describe())

    def _encode_batch(
        self,
        jobs: Sequence[Job],
        name: str,
        batch: Sequence[Sequence[tuple[int, _Ready]]],
        shard: "_Shards",
    ) -> None:
        """Encode one item of each group of equal items, and take its rows for all of them."""
        layers = sorted({job.output.layer for job in jobs})
        prepared = [group[0][1].prepared[name] for group in batch]
        found = dict(
            zip(layers, encode_within_memory(self._encoders[name], prepared, layers), strict=True)
        )
        sources = np.repeat(np.arange(len(batch)), [len(group) for group in batch])
        targets = np.array([position for group in batch for position, _ in group], dtype=np.int64)
        for job in jobs:
            output = job.output
            reduced = output.kind.reduce(found[output.layer], output.layout)
            shard.rows(job).add(reduced, sources=sources, targets=targets)

    def _write(
        self,
        index: int,
        jobs: Sequence[Job],
        shards: Mapping[str, "_Shard"],
        writer: ThreadPoolExecutor,
    ) -> None:
        self._settle()
        for job in jobs:
            key = job.store.manifest["key"]
            self._bad[key] += shards[key].skipped
            check_bad(self._bad[key], len(self.items), self.max_bad)
        self._writing = writer.submit(self._write_now, index, jobs, shards)

    def _write_now(self, index: int, jobs: Sequence[Job], shards: Mapping[str, "_Shard"]) -> None:
        for job in jobs:
            key = job.store.manifest["key"]
            features = shards[key].features(job)
            job.store.write_shard(index, features, shards[key].skipped)
            self._locks[key].release(index)

    def _settle(self) -> None:
        """Wait for the shard that is being written, and raise what went wrong with it."""
        began = time.perf_counter()
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()
        self.shares.write += time.perf_counter() - began

    def _finish(self, job: Job) -> None:
        locks = self._locks[job.store.manifest["key"]]
        locks.wait_for(MANIFEST_LOCK)
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
        self.by_key = {
            job.store.manifest["key"]: _Shard(
                ShardRows(dtype=job.store.description.dtype, width=job.store.description.width),
                companions={name: [] for name in job.store.description.companions},
            )
            for job in jobs
        }

    def rows(self, job: Job) -> ShardRows:
        """Return where the rows of one store are collected."""
        return self.by_key[job.store.manifest["key"]].rows

    def note(self, jobs: Sequence[Job], position: int, found: _Ready, name: str) -> None:
        """Take the id and companions of an item, or why it has no row."""
        for job in jobs:
            shard = self.by_key[job.store.manifest["key"]]
            error = found.errors.get(name)
            if error is not None:
                shard.skipped.append(Skipped(id=found.item.id, reason=str(error)))
                continue
            shard.ids[position] = found.item.id
            for companion, rows in shard.companions.items():
                rows.append(found.companions[name][companion])


def _batches(
    encoder: Encoder[Any], items: Sequence[tuple[int, _Ready]], batch_size: int
) -> list[list[list[tuple[int, _Ready]]]]:
    """Return batches of groups of equal items, shortest first, in item order where all are alike.

    Identical texts are encoded once. Texts of similar length are padded together: captions of 8 to
    40 tokens in item order are half padding.
    """
    groups: dict[object, list[tuple[int, _Ready]]] = {}
    for position, found in items:
        content = found.item.text if found.item.text is not None else position
        groups.setdefault(content, []).append((position, found))
    ordered = sorted(
        groups.values(), key=lambda group: encoder.size(group[0][1].prepared[encoder.name])
    )
    return [ordered[first : first + batch_size] for first in range(0, len(ordered), batch_size)]


def encode_within_memory(
    encoder: Encoder[Any], prepared: Sequence[Any], layers: Sequence[int]
) -> list[Tokens]:
    """Return the features of several layers; on a GPU that is too small, in halves."""
    try:
        return encoder.encode_layers(prepared, layers)
    except torch.cuda.OutOfMemoryError:
        if len(prepared) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(prepared) // 2
    halves = [
        encode_within_memory(encoder, part, layers)
        for part in (prepared[:middle], prepared[middle:])
    ]
    return [_joined(first, second) for first, second in zip(*halves, strict=True)]


def _joined(first: Tokens, second: Tokens) -> Tokens:
    longest = max(first.mask.shape[1], second.mask.shape[1])
    padded = []
    for tokens in (first, second):
        missing = longest - tokens.mask.shape[1]
        values = torch.nn.functional.pad(tokens.values, (0, 0, 0, missing))
        padded.append(Tokens(values, torch.nn.functional.pad(tokens.mask, (0, missing))))
    return Tokens(
        torch.cat([part.values for part in padded]), torch.cat([part.mask for part in padded])
    )


def check_bad(bad: Sequence[Skipped], num_items: int, max_bad: int) -> None:
    """Refuse more unreadable items than allowed.

    Raises:
        TooManyBadItemsError: There are more than `max_bad`; the first few are named.
    """
    if len(bad) > max_bad:
        examples = "; ".join(item.reason for item in bad[:3])
        raise TooManyBadItemsError(
            f"{len(bad)} of {num_items} items cannot be read, {max_bad} are allowed (--max-bad, "
            f"--on-error): {examples}"
        )
