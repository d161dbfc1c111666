"""Rows of a store as the first steps of a tower make them, computed once and kept in memory.

Towers that begin with a pool without parameters would pool the same tokens in every epoch, which
reads them all and takes longer than training on what comes out. Rows are pooled when they are first
asked for, by the steps themselves and in float32 as ever, and no number differs on a CPU: torch
adds up the tokens of a feature in one order, whatever the batch, and zeros of padding behind them
change no sum. That holds of whole blocks of 64 features; those of the rest are added in an order
that depends on the padding, so that rows of such a width that differ in length are left alone. On a
GPU sums are split by the size of a batch, and round so.

Axis names: `n` rows, `all_rows` those of the store, `features` of the one token that is left.
"""

from collections.abc import Callable
from threading import Lock
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Int64

from ...adapters.adapter import Adapter
from ...featcache.hardware import free_memory
from ...featcache.reading.reader import FeatureReader
from ...featcache.reading.residency import SHARE
from ...featcache.store.key import StoreDescription
from ...featcache.tokens import PooledTokens, StreamTokens, Tokens, split_by_length
from ...featcache.types import Side
from .pooled_shape import PooledShape

_FLOAT_BYTES = 4
_ADDED_IN_ORDER = 64  # features: four vectors of 512 bits, or more of narrower ones
_BLOCK_ELEMENTS = 2**22  # of the tokens that are pooled at once: 16 MiB in float32
POOLING_BYTES = 8 * _BLOCK_ELEMENTS * _FLOAT_BYTES  # what that takes at most, a summary at a time


class PooledRows:
    """Give the rows of a reader as the first steps of a tower make them.

    Rows come in the groups and in the order in which the reader gives them, by the lengths that
    they have there, so that whatever is made of them is the same.
    The first steps of the adapter's side pool, on `device`, where what comes out is kept.
    """

    def __init__(
        self, reader: FeatureReader, adapter: Adapter, side: Side, device: torch.device
    ) -> None:
        self.shape = pooled_shape(adapter, side, len(reader))
        self._reader = reader
        self._adapter = adapter
        self._side = side
        self._device = device
        self._values = torch.empty(len(reader), self.shape.width, device=device)
        self._is_there: Bool[np.ndarray, " all_rows"] = np.zeros(len(reader), dtype=bool)
        # batches are loaded ahead in another thread, which asks for rows while the training does
        self._lock = Lock()

    @property
    def description(self) -> StoreDescription:
        """Return what the store holds."""
        return self._reader.description

    @property
    def lengths(self) -> Int64[np.ndarray, " all_rows"]:
        """Return the number of tokens of each row in the store."""
        return self._reader.lengths

    def largest_row(self, rows: Int64[np.ndarray, " n"]) -> int:
        """Return the features of all tokens of the longest of these rows in the store."""
        return self._reader.largest_row(rows)

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the item ids of all rows, in order."""
        return self._reader.ids

    def padded(self, rows: Int64[np.ndarray, " n"]) -> PooledTokens:
        """Return the given rows as one batch, on the device where they are kept."""
        with self._lock:
            missing = np.unique(rows[~self._is_there[rows]])
            if len(missing):
                self._pool(missing)
        values = self._values[torch.from_numpy(rows).to(self._device)]
        mask = torch.ones(len(rows), 1, dtype=torch.bool, device=self._device)
        return PooledTokens(values[:, None], mask, self.shape.num_steps)

    def padded_groups(
        self, rows: Int64[np.ndarray, " n"], num_groups: int
    ) -> tuple[list[Tokens], Int64[np.ndarray, " n"]]:
        """Return the given rows in the groups of `FeatureReader.padded_groups`."""
        groups = split_by_length(self.lengths[rows], num_groups)
        return [self.padded(rows[group]) for group in groups], np.concatenate(groups)

    def _pool(self, rows: Int64[np.ndarray, " n"]) -> None:
        lengths = self.lengths[rows]
        # sorted by length, so that little of a block is padding
        ordered = rows[np.argsort(lengths, kind="stable")]
        size = max(1, _BLOCK_ELEMENTS // self._reader.largest_row(rows))
        for first in range(0, len(ordered), size):
            block = ordered[first : first + size]
            tokens = self._reader.padded(block).to(self._device)
            # in float32, as the steps would pool without autocast: what is kept serves every
            # precision
            with torch.autocast(self._device.type, enabled=False):
                pooled = self._adapter.pool(tokens, self._side)
            self._values[torch.from_numpy(block).to(self._device)] = pooled.values[:, 0]
            self._is_there[block] = True


RowReader: TypeAlias = FeatureReader | PooledRows


def pooled_shape(adapter: Adapter, side: Side, num_rows: int) -> PooledShape:
    """Return the shape that the first steps of a side give to a number of rows."""
    width = adapter.fixed_width(side)
    return PooledShape(
        num_steps=adapter.num_fixed(side),
        width=width,
        num_bytes=num_rows * width * _FLOAT_BYTES,
    )


def pool_once(
    reader: FeatureReader,
    adapter: Adapter,
    side: Side,
    *,
    device: torch.device,
    is_float32: bool,
    free: Callable[[torch.device], int] | None = None,
) -> RowReader:
    """Return the reader itself, or what pools each of its rows once.

    It does where the tower begins with a pool without parameters, rows have several tokens, none of
    their sums depends on padding, and what the pool leaves of all of them fits a quarter of the
    free memory of the device.
    `is_float32` says that it is trained without autocast: with it only exact towers pool the same.
    `free` returns the free bytes of a device.
    """
    if not adapter.num_fixed(side) or not (is_float32 or adapter.is_exact(side)):
        return reader
    is_pooled = all(int(stream.lengths.max(initial=1)) == 1 for stream in reader.streams)
    if is_pooled or not _leaves_one_token(adapter, side):
        return reader
    for what in (stream.description for stream in reader.streams):
        if what.tokens_per_item is None and what.width % _ADDED_IN_ORDER:
            return reader
    # a quarter of the memory, as a reader takes: what is left is for the training
    most = SHARE * (free or _free_memory)(device)
    if pooled_shape(adapter, side, len(reader)).num_bytes > most:
        return reader
    return PooledRows(reader, adapter, side, device)


def _leaves_one_token(adapter: Adapter, side: Side) -> bool:
    """Return whether each stream of a row of two tokens has one after the first steps."""
    device = next(adapter.parameters(), torch.empty(0)).device
    mask = torch.ones(1, 2, dtype=torch.bool, device=device)
    streams = [
        Tokens(torch.zeros(1, 2, width, device=device), mask)
        for width in adapter.stream_widths[side]
    ]
    return adapter.pool(StreamTokens.of(streams), side).values.shape[1] == 1


def _free_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
