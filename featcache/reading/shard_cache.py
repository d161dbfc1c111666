"""The arrays of all shards, loaded when they are first used and kept within bounds."""

import math
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock

import numpy as np
from jaxtyping import Float, Shaped

from ..hardware import free_address_space, reserve_files
from ..regular_files import is_regular, open_regular
from ..store.containers.base import ArrayLocation
from ..store.key import StoreDescription
from ..store.stored_types import SCALES, dequantise, storage
from ..types import PER_TOKEN
from .gather import Spans, copy_rows

_NO_LIMIT = sys.maxsize  # of bytes and of shards


class ShardCache:
    """Keep one array of each of the shards that were used last, within limits if there are any.

    The array that was asked for last is kept whatever its size. Threads may share a cache.
    """

    def __init__(
        self,
        load: Callable[[int], np.ndarray],
        *,
        limit_bytes: int = _NO_LIMIT,
        limit_shards: int = _NO_LIMIT,
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

    @property
    def bounded(self) -> bool:
        """Return whether the cache has a limit, so that arrays may be dropped from it."""
        return min(self._limit_bytes, self._limit_shards) < _NO_LIMIT

    def get(self, index: int) -> np.ndarray:
        """Return the array of shard `index`, loading it if it is not here."""
        # loading is within the lock: two threads that ask for one shard decompress it once
        with self._lock:
            array = self._arrays.get(index)
            if array is None:
                array = self._load(index)
                self.num_loads += 1
                self.num_bytes += array.nbytes
                self._arrays[index] = array
                while len(self) > 1 and (
                    self.num_bytes > self._limit_bytes or len(self) > self._limit_shards
                ):
                    _, oldest = self._arrays.popitem(last=False)
                    self.num_bytes -= oldest.nbytes
            self._arrays.move_to_end(index)
            return array


class StoredArrays:
    """Copy lines of the arrays of a store, widening the values.

    Shards are kept whole, decompressed and widened, if `in_memory`; else `buffer_bytes` of those
    decompressed.
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
        limit_shards = files if files < len(shards) else _NO_LIMIT
        self._beside = {
            name: ShardCache(partial(self._read, name), limit_shards=limit_shards) for name in names
        }
        self._values = ShardCache(
            self.load_values, limit_bytes=self._limit_bytes(), limit_shards=limit_shards
        )

    @property
    def buffer_shards(self) -> int | None:
        """Return how many shards stay decompressed, or None where that does not bind."""
        if self._in_memory or not self._compressed:
            return None
        values = [arrays["values"] for arrays in self._shards]
        largest = max(math.prod(array.shape) * array.dtype.itemsize for array in values)
        return max(1, self._buffer_bytes // max(1, largest))

    @property
    def num_loads(self) -> int:
        """Return how many times the values of a shard were read so far."""
        return self._values.num_loads

    def copy_values(self, tokens: Spans, out: Shaped[np.ndarray, "total width"]) -> None:
        """Write the values as floats into `out`; `RowLayout.token_spans` says where they lie."""
        dtype = self._description.dtype
        if self._in_memory or storage(dtype).kind == "f":
            self._copy(self._values, tokens, out)
            return
        stored = np.empty(out.shape, storage(dtype))
        self._copy(self._values, tokens, stored)
        scales = np.empty(len(out), np.float32) if SCALES in self._beside else None
        if scales is not None:
            self._copy(self._beside[SCALES], tokens, scales)
        out[...] = dequantise(stored, scales, dtype)

    def companion(
        self, name: str, *, num_tokens: int, tokens: Spans, rows: Spans
    ) -> Shaped[np.ndarray, "lines ..."]:
        """Return the lines of an array beside the values.

        Those of an array of one line a token lie in the spans `tokens`, others in `rows`.
        """
        like, cache = self._shards[0][name], self._beside[name]
        per_token = name in PER_TOKEN
        out = np.empty((num_tokens if per_token else len(rows.shard), *like.shape[1:]), like.dtype)
        if per_token:
            self._copy(cache, tokens, out)
        else:
            copy_rows(cache.get, rows, out, one_by_one=cache.bounded)
        return out

    def widened_shard(self, index: int) -> Float[np.ndarray, "tokens width"]:
        """Return all values of one shard as floats."""
        scales = self._read(SCALES, index).reshape(-1) if SCALES in self._beside else None
        stored = self._read("values", index).reshape(-1, self._description.width)
        return dequantise(stored, scales, self._description.dtype)

    def _copy(self, cache: ShardCache, spans: Spans, out: Shaped[np.ndarray, "total ..."]) -> None:
        """Copy arrays of one line a token, whose shape `_by_row` has changed."""
        copy_rows(cache.get, spans, self._by_row(out), one_by_one=cache.bounded)

    def _by_row(self, lines: Shaped[np.ndarray, "total ..."]) -> np.ndarray:
        """Return one line a row where rows are of one length, which makes long copies."""
        tokens = self._description.tokens_per_item
        return lines if tokens is None else lines.reshape(-1, tokens, *lines.shape[1:])

    def _read(self, name: str, index: int) -> np.ndarray:
        # a plain array, as slicing a memmap costs a microsecond more
        array = np.asarray(self._shards[index][name].read())
        return self._by_row(array) if name in PER_TOKEN else array

    def load_values(self, index: int) -> np.ndarray:
        """Return the values of one shard, one line a row where rows are of one length."""
        if self._in_memory:
            _read_ahead(self._shards[index]["values"])
            return self._by_row(self.widened_shard(index))
        return self._read("values", index)

    def _limit_bytes(self) -> int:
        if self._compressed and not self._in_memory:
            return self._buffer_bytes
        # maps take no memory of the process, but under a limit of its address space they count
        space = None if self._in_memory else free_address_space()
        return _NO_LIMIT if space is None else space // 4


def _read_ahead(location: ArrayLocation) -> None:
    """Ask the system to read the file into memory; it goes on without waiting where it can."""
    if location.decompress is None and is_regular(location.file) and hasattr(os, "posix_fadvise"):
        with open_regular(location.file) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
