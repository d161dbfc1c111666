"""Read rows of a complete store by number or id through memory maps."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64, Shaped

from .copying import copy_rows
from .dtypes import SCALES, storage, widen
from .errors import StoreCorruptError
from .item_ids import decode_ids
from .store import FeatureStore
from .types import PER_TOKEN, Features


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
        width = self.description.width
        self._values = [np.asarray(arrays["values"].read()).reshape(-1, width) for arrays in shards]
        names = [name for name in next(iter(shards), {}) if name not in ("values", "offsets")]
        self._arrays = {
            name: [np.asarray(arrays[name].read()) for arrays in shards] for name in names
        }
        rows = [len(ids) for ids in self._arrays["ids"]]
        if rows != [receipt["rows"] for receipt in self.store.receipts()]:
            raise StoreCorruptError(f"{folder}: the shards have other rows than the manifest")
        self._first_row = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
        if self.description.tokens_per_item is None:
            read = [np.array(arrays["offsets"].read()) for arrays in shards]
            self._offsets = _join_offsets(folder, read, [len(array) for array in self._values])

    def __len__(self) -> int:
        return int(self._first_row[-1])

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Return the item ids of all rows, in order."""
        return tuple(item for ids in self._arrays["ids"] for item in decode_ids(ids))

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Return the row number of each item id."""
        return {item: row for row, item in enumerate(self.ids)}

    @property
    def lengths(self) -> Int64[np.ndarray, " n"]:
        """Return the number of tokens of each row."""
        tokens = self.description.tokens_per_item
        return np.diff(self._offsets) if tokens is None else np.full(len(self), tokens, np.int64)

    def gather(
        self, rows: Sequence[int] | Int64[np.ndarray, " n"], *, companions: bool = True
    ) -> Features:
        """Return the given rows, in the given order, repeats included, as floats.

        `float16` comes as it is stored, every other type as float32; the scales of `int8` are used
        up by that.

        Args:
            rows: Row numbers.
            companions: Whether to read the arrays beside the values too.

        Raises:
            IndexError: A row number is negative or not below the number of rows.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise IndexError(f"rows must be in [0, {len(self)})")
        shard = np.searchsorted(self._first_row, wanted, side="right") - 1
        starts, lengths = self._token_spans(wanted, shard)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        beside = {
            name: self._companion(name, wanted - self._first_row[shard], shard, starts, lengths)
            for name in (self.description.companions if companions else ())
        }
        ids = tuple(map(self.ids.__getitem__, wanted.tolist()))
        return Features(self._widened(shard, starts, lengths), offsets, ids, beside)

    def _token_spans(
        self, rows: Int64[np.ndarray, " n"], shard: Int64[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Return first token within its shard, and number of tokens, of each row."""
        first = self._first_row[shard]
        tokens = self.description.tokens_per_item
        if tokens is not None:
            return (rows - first) * tokens, np.full(len(rows), tokens, dtype=np.int64)
        starts = self._offsets[rows]
        return starts - self._offsets[first], self._offsets[rows + 1] - starts

    def _widened(
        self,
        shard: Int64[np.ndarray, " n"],
        starts: Int64[np.ndarray, " n"],
        lengths: Int64[np.ndarray, " n"],
    ) -> Float[np.ndarray, "total width"]:
        dtype = self.description.dtype
        stored = np.empty((int(lengths.sum()), self.description.width), storage(dtype))
        copy_rows(self._values, shard, starts, lengths, stored)
        scales = None
        if SCALES in self._arrays:
            scales = np.empty(len(stored), np.float32)
            copy_rows(self._arrays[SCALES], shard, starts, lengths, scales)
        return widen(stored, scales, dtype)

    def _companion(
        self,
        name: str,
        local: Int64[np.ndarray, " n"],
        shard: Int64[np.ndarray, " n"],
        starts: Int64[np.ndarray, " n"],
        lengths: Int64[np.ndarray, " n"],
    ) -> Shaped[np.ndarray, "lines ..."]:
        if name not in PER_TOKEN:
            starts, lengths = local, np.ones_like(local)
        sources = self._arrays[name]
        out = np.empty((int(lengths.sum()), *sources[0].shape[1:]), sources[0].dtype)
        copy_rows(sources, shard, starts, lengths, out)
        return out


def _join_offsets(
    folder: Path, parts: list[np.ndarray], num_tokens: list[int]
) -> Int64[np.ndarray, " n_plus_1"]:
    """Return the first token of each row, counted through all shards, and the total last."""
    for part, tokens in zip(parts, num_tokens, strict=True):
        if part[0] != 0 or part[-1] != tokens or (np.diff(part) < 0).any():
            raise StoreCorruptError(f"{folder}: the offsets of a shard contradict its values")
    before = np.cumsum([0, *num_tokens])
    joined = [part[:-1] + first for part, first in zip(parts, before[:-1], strict=True)]
    return np.concatenate([*joined, before[-1:]]).astype(np.int64)
