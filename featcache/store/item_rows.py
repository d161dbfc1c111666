"""The rows of a store by the items of its split, shard by shard in bounded memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from ..errors import StoreCorruptError
from ..item_ids import decode_ids
from ..types import Features
from .checked_shards import CheckedShards
from .feature_store import FeatureStore, skipped_of
from .key import Skipped
from .stored_types import SCALES, dequantise

BLOCK_ELEMENTS = 2**24  # features of a block: 64 MiB in float32


@dataclass(frozen=True)
class ItemBlock:
    """Rows that follow each other, as floats and without companions.

    Attributes:
        positions: Item of the split that each row is.
        features: The rows.
    """

    positions: Int64[np.ndarray, " n"]
    features: Features


@dataclass(frozen=True)
class _OpenShard:
    """Arrays of the shard that is being read; the positions are those of its rows in the split."""

    index: int
    positions: Int64[np.ndarray, " rows"]
    offsets: Int64[np.ndarray, " rows_plus_1"]
    values: Shaped[np.ndarray, "total width"]  # of an uncompressed shard a memory map
    scales: Float32[np.ndarray, " total"] | None


class ItemRows:
    """Read the rows of a complete store in the order of its items.

    Checksums are compared as shards are opened, one shard is in memory at a time, and what was
    found whole is remembered by `close`.

    Args:
        store: The store.
        ids: Ids of all items of its split, in their order.
    """

    def __init__(self, store: FeatureStore, ids: Sequence[str]) -> None:
        self.store = store
        self._ids = ids
        self._shards = CheckedShards(store)
        self._open: _OpenShard | None = None

    def skipped(self, items: range) -> list[Skipped]:
        """Return those of these items that have no row, in order."""
        names = set(self._ids[items.start : items.stop])
        recorded = [self._shards.receipts[index] for index in self._indices(items)]
        return [item for item in skipped_of(recorded) if item.id in names]

    def blocks(self, items: range) -> Iterator[ItemBlock]:
        """Yield the rows of these items, in blocks of 64 MiB at most in float32.

        Raises:
            StoreCorruptError: A shard differs from its checksums, or has the rows of other items.
            FeatureRangeError: A stored feature is not finite.
        """
        for index in self._indices(items):
            shard = self._shard(index)
            first, end = np.searchsorted(shard.positions, [items.start, items.stop]).tolist()
            while first < end:
                last = self._end_of_block(shard, first, end)
                yield self._block(shard, first, last)
                first = last

    def close(self) -> None:
        """Let the open shard go, and remember which ones were whole."""
        self._open = None
        self._shards.remember()

    def _indices(self, items: range) -> range:
        rows = self.store.description.rows_per_shard
        return range(items.start // rows, -(-items.stop // rows)) if len(items) else range(0)

    def _end_of_block(self, shard: _OpenShard, first: int, end: int) -> int:
        """Return where the block ends that begins with row `first`; it has one row at least."""
        most = shard.offsets[first] + BLOCK_ELEMENTS // self.store.description.width
        return min(end, max(first + 1, int(np.searchsorted(shard.offsets, most, "right")) - 1))

    def _block(self, shard: _OpenShard, first: int, end: int) -> ItemBlock:
        offsets = shard.offsets[first : end + 1]
        tokens = slice(int(offsets[0]), int(offsets[-1]))
        scales = None if shard.scales is None else shard.scales[tokens]
        values = dequantise(shard.values[tokens], scales, self.store.description.dtype)
        if not values.flags.writeable:
            # torch takes no arrays that cannot be written to
            values = np.array(values)
        positions = shard.positions[first:end]
        ids = tuple(self._ids[position] for position in positions.tolist())
        return ItemBlock(positions, Features(values, offsets - offsets[0], ids))

    def _shard(self, index: int) -> _OpenShard:
        if self._open is None or self._open.index != index:
            # before the next is there: one shard at a time is in memory
            self._open = None
            self._open = self._read(index)
        return self._open

    def _read(self, index: int) -> _OpenShard:
        arrays = self._shards.open(index)
        described = self.store.description
        skipped = {item["id"] for item in self._shards.receipts[index]["skipped"]}
        items = self.store.shard_items(index)
        positions = np.array(
            [place for place in items if self._ids[place] not in skipped], np.int64
        )
        stored_ids = decode_ids(arrays["ids"].read())
        # by id and not by number: the dataset may have changed since the store was written
        if list(stored_ids) != [self._ids[position] for position in positions.tolist()]:
            raise StoreCorruptError(
                f"{self.store.folder}: shard {index} has the rows of other items than the dataset"
            )
        tokens = described.tokens_per_item
        if tokens is None:
            offsets = np.array(arrays["offsets"].read())
        else:
            offsets = np.arange(len(positions) + 1, dtype=np.int64) * tokens
        values = np.asarray(arrays["values"].read()).reshape(-1, described.width)
        if len(offsets) != len(positions) + 1 or offsets[0] != 0 or offsets[-1] != len(values):
            raise StoreCorruptError(
                f"{self.store.folder}: the offsets of shard {index} contradict its values"
            )
        scales = np.asarray(arrays[SCALES].read()).reshape(-1) if SCALES in arrays else None
        return _OpenShard(index, positions, offsets, values, scales)
