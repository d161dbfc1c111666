"""Collect what encoders return, batch by batch in any order, as the rows of one shard."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from ...featcache.store.stored_types import SCALES, empty_companion, quantise, storage
from ...featcache.tokens import Tokens
from ...featcache.types import PER_TOKEN, Features, ragged_arange


class ShardRows:
    """Buffer of the rows of one shard, in the stored type, until all are there."""

    def __init__(self, *, dtype: str, width: int) -> None:
        self._dtype = dtype
        self._width = width
        self._batches: list[tuple[np.ndarray, np.ndarray, np.ndarray, Any, np.ndarray]] = []

    def add(
        self,
        tokens: Tokens,
        *,
        sources: Int64[np.ndarray, " n"],
        targets: Int64[np.ndarray, " n"],
    ) -> None:
        """Take rows of a batch, float32 on the CPU; `targets` are their items in the shard.

        A row that stands for several equal items is taken several times.
        """
        lengths = tokens.mask.sum(dim=1).numpy()
        whole = bool(tokens.mask.all())
        packed = tokens.values.flatten(0, 1) if whole else tokens.values[tokens.mask]
        # torch rounds as NumPy does, several times as fast
        if self._dtype == "float16":
            packed = packed.half()
        values, scales = quantise(packed.numpy(), self._dtype)
        self._batches.append((targets, sources, values, scales, lengths))

    def features(
        self, ids: Mapping[int, str], companions: Mapping[str, Sequence[np.ndarray]]
    ) -> Features:
        """Return all rows in item order, without padding; items without a row have no id.

        Companions are the arrays of each row, in item order, by name.
        """
        items = np.array(sorted(ids), dtype=np.int64)
        lengths = np.zeros(len(items), dtype=np.int64)
        for targets, sources, _, _, batch_lengths in self._batches:
            lengths[np.searchsorted(items, targets)] = batch_lengths[sources]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        values = np.empty((int(offsets[-1]), self._width), storage(self._dtype))
        scales = np.empty(len(values), np.float32)
        for targets, sources, batch_values, batch_scales, batch_lengths in self._batches:
            taken = batch_lengths[sources]
            starts = np.cumsum(batch_lengths) - batch_lengths
            place = ragged_arange(offsets[np.searchsorted(items, targets)], taken)
            origin = ragged_arange(starts[sources], taken)
            values[place] = batch_values[origin]
            if batch_scales is not None:
                scales[place] = batch_scales[origin]
        arrays = {
            name: np.concatenate(rows) if rows else empty_companion(name)
            for name, rows in companions.items()
        }
        if self._dtype == "int8":
            arrays[SCALES] = scales
        assert all(len(arrays[name]) == len(values) for name in arrays if name in PER_TOKEN)
        return Features(values, offsets, tuple(ids[item] for item in items.tolist()), arrays)
