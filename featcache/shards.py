"""The arrays of all shards, loaded when they are first used and kept within bounds."""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock

import numpy as np
from jaxtyping import Float, Shaped

from .copying import Spans, copy_rows
from .description import StoreDescription
from .dtypes import SCALES, storage, widen
from .format import ArrayLocation
from .residency import free_address_space, reserve_files
from .types import PER_TOKEN


class ShardCache:
    """Keep one array of each of the shards that were used last.

    The array that was asked for last is kept whatever its size. Threads may share a cache.

    Args:
        load: Returns the array of a shard.
        limit_bytes: Most bytes to keep, or None for no limit.
        limit_shards: Most arrays to keep, or None for no limit.
    """

    def __init__(
        self,
        load: Callable[[int], np.ndarray],
        *,
        limit_bytes: int | None = None,
        limit_shards: int | None = None,
    ) -> None:
        self._load = load
        self._limit_bytes = limit_bytes
        self._limit_shards = limit_shards
        self._lock = Lock()
        self._arrays: OrderedDict[int, np.ndarray] = OrderedDict()
        self.num_bytes = 0
        self.num_loads = 0

    def __len__(self) -> int:
        return len(self._arrays)

    def get(self, index: int) -> np.ndarray:
        """Return the array of shard `index`, loading it if it is not here."""
        with self._lock:
            array = self._arrays.get(index)
            if array is None:
                array = self._load(index)
                self.num_loads += 1
                self.num_bytes += array.nbytes
                self._arrays[index] = array
                while len(self._arrays) > 1 and self._over():
                    _, oldest = self._arrays.popitem(last=False)
                    self.num_bytes -= oldest.nbytes
            self._arrays.move_to_end(index)
            return array

    def _over(self) -> bool:
        return (self._limit_bytes is not None and self.num_bytes > self._limit_bytes) or (
            self._limit_shards is not None and len(self) > self._limit_shards
        )


class StoredArrays:
    """Copy lines of the arrays of a store, widening the values.

    Args:
        shards: Where the arrays of each shard lie.
        description: What the store holds.
        in_memory: Whether to keep each shard whole, decompressed and widened.
        buffer_bytes: Bytes of decompressed shards kept at once otherwise.
    """

    def __init__(
        self,
        shards: Sequence[Mapping[str, ArrayLocation]],
        description: StoreDescription,
        *,
        in_memory: bool,
        buffer_bytes: int,
    ) -> None:
        self._shards = shards
        self._description = description
        self._in_memory = in_memory
        self._buffer_bytes = buffer_bytes
        self._compressed = any(arrays["values"].decompress is not None for arrays in shards)
        names = [*description.companions, *([SCALES] if description.dtype == "int8" else [])]
        num_arrays = 1 + len(names)
        files = max(1, reserve_files(len(shards) * num_arrays) // num_arrays)
        self._beside = {
            name: ShardCache(partial(self._read, name), limit_shards=files) for name in names
        }
        limit_bytes = self._limit_bytes()
        self._values = ShardCache(
            self._load_values, limit_bytes=limit_bytes, limit_shards=None if in_memory else files
        )

    @property
    def buffer_shards(self) -> int | None:
        """Return how many shards stay decompressed, or None where that does not bind."""
        if self._in_memory or not self._compressed:
            return None
        shapes = [arrays["values"] for arrays in self._shards]
        largest = max(int(np.prod(one.shape)) * one.dtype.itemsize for one in shapes)
        return max(1, self._buffer_bytes // max(1, largest))

    def copy_values(self, spans: Spans, out: Shaped[np.ndarray, "total width"]) -> None:
        """Write the values of all tokens as floats into `out`."""
        dtype = self._description.dtype
        if self._in_memory or storage(dtype).kind == "f":
            copy_rows(self._values.get, spans, out)
            return
        stored = np.empty(out.shape, storage(dtype))
        copy_rows(self._values.get, spans, stored)
        scales = self._lines(SCALES, spans) if SCALES in self._beside else None
        out[...] = widen(stored, scales, dtype)

    def companion(self, name: str, tokens: Spans, rows: Spans) -> Shaped[np.ndarray, "lines ..."]:
        """Return the lines of an array beside the values.

        Args:
            name: Name of the array.
            tokens: Where its lines are if it has one a token.
            rows: Where they are if it has one a row.
        """
        return self._lines(name, tokens if name in PER_TOKEN else rows)

    def widened_shard(self, index: int) -> Float[np.ndarray, "tokens width"]:
        """Return all values of one shard as floats."""
        scales = self._read(SCALES, index) if SCALES in self._beside else None
        stored = self._read("values", index).reshape(-1, self._description.width)
        return widen(stored, scales, self._description.dtype)

    def _lines(self, name: str, spans: Spans) -> Shaped[np.ndarray, "lines ..."]:
        like = self._shards[0][name]
        out = np.empty((int(spans.lengths.sum()), *like.shape[1:]), like.dtype)
        copy_rows(self._beside[name].get, spans, out)
        return out

    def _read(self, name: str, index: int) -> np.ndarray:
        # plain arrays, as slicing a memmap costs a microsecond more
        return np.asarray(self._shards[index][name].read())

    def _load_values(self, index: int) -> np.ndarray:
        if self._in_memory:
            _read_ahead(self._shards[index]["values"])
            return self.widened_shard(index)
        return self._read("values", index).reshape(-1, self._description.width)

    def _limit_bytes(self) -> int | None:
        if self._in_memory:
            return None
        if self._compressed:
            return self._buffer_bytes
        # maps take no memory of the process, but under a limit of its address space they count
        space = free_address_space()
        return None if space is None else space // 4


def _read_ahead(location: ArrayLocation) -> None:
    """Ask the system to read the file into memory; it goes on without waiting where it can."""
    if location.decompress is None and location.file.is_file() and hasattr(os, "posix_fadvise"):
        with location.file.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
