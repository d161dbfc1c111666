"""Copy rows out of many arrays into one: the inner loop of every read.

Axis names: `n` rows, `total` lines of all of them together.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped

from .types import ragged_arange

# An assignment costs about 0.5 microseconds a row whatever its length. Indexing costs less a row,
# 6 microseconds a shard, and a second pass over the bytes: it wins for many short rows.
_SHORT_ROW = 8192  # bytes
_MANY_ROWS = 8  # of each shard


@dataclass(frozen=True)
class Spans:
    """Say where rows lie in the arrays of their shards.

    Attributes:
        shard: Shard of each row.
        starts: First line of each row in the array of its shard.
        lengths: Number of lines of each row, or None where each row is one line.
    """

    shard: Int64[np.ndarray, " n"]
    starts: Int64[np.ndarray, " n"]
    lengths: Int64[np.ndarray, " n"] | None = None


def copy_rows(
    source: Callable[[int], np.ndarray],
    spans: Spans,
    out: Shaped[np.ndarray, "total ..."],
    *,
    one_by_one: bool = False,
) -> None:
    """Fill `out` with the lines of each row, row after row, and cast where dtypes differ.

    Args:
        source: Returns the array of a shard.
        spans: Which lines to copy.
        out: Where to write, as long as all rows together.
        one_by_one: Whether each shard is to be let go before the next is asked for.
    """
    if not len(out):
        return
    shards = np.unique(spans.shard).tolist()
    num_rows = len(spans.shard)
    if len(shards) == 1:
        array = source(shards[0])
        lines = _lines(spans.starts, spans.lengths)
        if array.dtype == out.dtype and out.flags.c_contiguous:
            # `clip` alone writes without a buffer between; every line is in range
            np.take(array, lines, axis=0, out=out, mode="clip")
        else:
            out[...] = array[lines]
    elif one_by_one or (out.nbytes < _SHORT_ROW * num_rows and num_rows > _MANY_ROWS * len(shards)):
        _index_each_shard(source, shards, spans, out)
    elif spans.lengths is None:
        arrays = {index: source(index) for index in shards}
        for place, (index, start) in enumerate(
            zip(spans.shard.tolist(), spans.starts.tolist(), strict=True)
        ):
            out[place] = arrays[index][start]
    else:
        _assign_each_span({index: source(index) for index in shards}, spans, spans.lengths, out)


def _assign_each_span(
    arrays: dict[int, np.ndarray],
    spans: Spans,
    lengths: Int64[np.ndarray, " n"],
    out: Shaped[np.ndarray, "total ..."],
) -> None:
    # in the order of `out`, not of the shards: the system clears fresh pages when they are first
    # written to, and what is written to them at once is still in the cache of the processor
    ends = np.cumsum(lengths)
    for index, start, stop, target, end in zip(
        spans.shard.tolist(),
        spans.starts.tolist(),
        (spans.starts + lengths).tolist(),
        (ends - lengths).tolist(),
        ends.tolist(),
        strict=True,
    ):
        out[target:end] = arrays[index][start:stop]


def _index_each_shard(
    source: Callable[[int], np.ndarray],
    shards: list[int],
    spans: Spans,
    out: Shaped[np.ndarray, "total ..."],
) -> None:
    order = np.argsort(spans.shard, kind="stable")
    starts = spans.starts[order]
    lengths = None if spans.lengths is None else spans.lengths[order]
    ends = np.arange(1, len(order) + 1) if lengths is None else np.cumsum(lengths)
    lines = _lines(starts, lengths)
    rows = np.searchsorted(spans.shard[order], shards, side="right")
    stops = np.where(rows > 0, ends[rows - 1], 0).tolist()
    by_shard = np.empty_like(out)
    begin = 0
    for index, stop in zip(shards, stops, strict=True):
        array = source(index)
        if array.dtype == out.dtype:
            np.take(array, lines[begin:stop], axis=0, out=by_shard[begin:stop], mode="clip")
        else:
            by_shard[begin:stop] = array[lines[begin:stop]]
        begin = stop
    if spans.lengths is None:
        out[order] = by_shard
    else:
        first = np.cumsum(spans.lengths) - spans.lengths
        out[_lines(first[order], lengths)] = by_shard


def _lines(
    starts: Int64[np.ndarray, " n"], lengths: Int64[np.ndarray, " n"] | None
) -> Int64[np.ndarray, " total"]:
    return starts if lengths is None else ragged_arange(starts, lengths)
