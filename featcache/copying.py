"""Copy rows out of many arrays into one: the inner loop of every read.

Axis names: `n` rows, `total` tokens of all of them together.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped

from .types import ragged_arange

# An assignment costs about 0.5 microseconds a row whatever its length. Indexing costs less a row,
# 6 microseconds a shard, and a second pass over the bytes: it wins for many short rows.
_SHORT_ROW = 8192  # bytes
_MANY_ROWS = 32  # of each shard


@dataclass(frozen=True)
class Spans:
    """Say where rows lie in the arrays of their shards.

    Attributes:
        shard: Shard of each row.
        starts: First line of each row in the array of its shard.
        lengths: Number of lines of each row.
    """

    shard: Int64[np.ndarray, " n"]
    starts: Int64[np.ndarray, " n"]
    lengths: Int64[np.ndarray, " n"]


def copy_rows(
    source: Callable[[int], np.ndarray], spans: Spans, out: Shaped[np.ndarray, "total ..."]
) -> None:
    """Fill `out` with the lines of each row, row after row, and cast where dtypes differ.

    Each shard is asked for once and let go before the next, so that `source` may be a small cache.

    Args:
        source: Returns the array of a shard.
        spans: Which lines to copy.
        out: Where to write, as long as all rows together.
    """
    if not len(out):
        return
    num_shards = len(np.unique(spans.shard))
    if num_shards == 1:
        array = source(int(spans.shard[0]))
        lines = ragged_arange(spans.starts, spans.lengths)
        if array.dtype == out.dtype and out.flags.c_contiguous:
            # `clip` alone writes without a buffer between; every line is in range
            np.take(array, lines, axis=0, out=out, mode="clip")
        else:
            out[...] = array[lines]
    elif out.nbytes < _SHORT_ROW * len(spans.shard) and len(spans.shard) > _MANY_ROWS * num_shards:
        _index_each_shard(source, spans, out)
    else:
        _assign_each_row(source, spans, out)


def _assign_each_row(
    source: Callable[[int], np.ndarray], spans: Spans, out: Shaped[np.ndarray, "total ..."]
) -> None:
    order = np.argsort(spans.shard, kind="stable")
    targets = (np.cumsum(spans.lengths) - spans.lengths)[order]
    shards, starts, lengths = spans.shard[order], spans.starts[order], spans.lengths[order]
    before = -1
    for index, start, stop, target, end in zip(
        shards.tolist(),
        starts.tolist(),
        (starts + lengths).tolist(),
        targets.tolist(),
        (targets + lengths).tolist(),
        strict=True,
    ):
        if index != before:
            array = source(index)
            before = index
        out[target:end] = array[start:stop]


def _index_each_shard(
    source: Callable[[int], np.ndarray], spans: Spans, out: Shaped[np.ndarray, "total ..."]
) -> None:
    targets = np.cumsum(spans.lengths) - spans.lengths
    for index in np.unique(spans.shard).tolist():
        here = np.flatnonzero(spans.shard == index)
        lengths = spans.lengths[here]
        lines = ragged_arange(spans.starts[here], lengths)
        out[ragged_arange(targets[here], lengths)] = source(index)[lines]
