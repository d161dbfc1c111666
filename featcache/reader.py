"""Read rows of a complete store by number or id through memory maps."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from .errors import StoreCorruptError
from .item_ids import decode_ids
from .store import FeatureStore
from .types import Features, ragged_arange


class FeatureReader:
    """Gather rows of a store in any order; only the asked rows are read from disk.

    Args:
        folder: Folder of a complete store.

    Raises:
        StoreNotFoundError: The folder holds no store.
        StoreIncompleteError: Its extraction has not finished.
        StoreCorruptError: Its files contradict its manifest.
    """

    def __init__(self, folder: Path) -> None:
        self.store = FeatureStore.open(folder)
        self.description = self.store.description
        shards = [self.store.locate(index) for index in range(self.store.num_shards)]
        self._values = [arrays["values"].map() for arrays in shards]
        self._ids = [arrays["ids"].map() for arrays in shards]
        ragged = self.description.tokens_per_item is None
        self._offsets = [np.array(arrays["offsets"].map()) for arrays in shards] if ragged else []
        rows = [len(ids) for ids in self._ids]
        if rows != [receipt["rows"] for receipt in self.store.receipts()]:
            raise StoreCorruptError(f"{folder}: the shards have other rows than the manifest")
        self._first_row = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self._first_row[-1])

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Return the item ids of all rows, in order."""
        return tuple(item for ids in self._ids for item in decode_ids(ids))

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Return the row number of each item id."""
        return {item: row for row, item in enumerate(self.ids)}

    @property
    def lengths(self) -> Int64[np.ndarray, " n"]:
        """Return the number of tokens of each row."""
        tokens = self.description.tokens_per_item
        if tokens is not None:
            return np.full(len(self), tokens, dtype=np.int64)
        return np.concatenate([np.diff(offsets) for offsets in self._offsets] or [np.empty(0, int)])

    def gather(self, rows: Sequence[int] | Int64[np.ndarray, " n"]) -> Features:
        """Return the given rows, in the given order, repeats included, in the stored dtype.

        Raises:
            IndexError: A row number is negative or not below the number of rows.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"rows must be in [0, {len(self)})")
        shard = np.searchsorted(self._first_row, wanted, side="right") - 1
        local = wanted - self._first_row[shard]
        starts, lengths = self._token_spans(shard, local)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        values = np.empty((int(offsets[-1]), self.description.width), self.description.dtype)
        for index in np.unique(shard):
            here = np.flatnonzero(shard == index)
            self._copy(int(index), starts[here], lengths[here], offsets[here], values)
        ids = tuple(self.ids[row] for row in wanted.tolist())
        return Features(values, offsets, ids)

    def _token_spans(
        self, shard: np.ndarray, local: np.ndarray
    ) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Return first token within its shard, and number of tokens, of each row."""
        tokens = self.description.tokens_per_item
        if tokens is not None:
            return local * tokens, np.full(len(local), tokens, dtype=np.int64)
        starts = np.empty(len(local), dtype=np.int64)
        lengths = np.empty(len(local), dtype=np.int64)
        for index in np.unique(shard):
            here = shard == index
            offsets = self._offsets[int(index)]
            starts[here] = offsets[local[here]]
            lengths[here] = offsets[local[here] + 1] - starts[here]
        return starts, lengths

    def _copy(
        self,
        index: int,
        starts: np.ndarray,
        lengths: np.ndarray,
        targets: np.ndarray,
        values: np.ndarray,
    ) -> None:
        source = self._values[index]
        tokens = self.description.tokens_per_item
        if tokens is not None:
            place = values.reshape(-1, tokens, self.description.width)
            place[targets // tokens] = source[starts // tokens]
            return
        values[ragged_arange(targets, lengths)] = source[ragged_arange(starts, lengths)]
