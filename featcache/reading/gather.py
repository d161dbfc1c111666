"""Rows and tokens of a store: their places in the shards, and copies of them.

Axis names: `n` asked rows, `shards_plus_1` and `rows_plus_1` counts from zero to the total.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from ..errors import StoreCorruptError
from ..store.containers.base import ArrayLocation
from ..types import ragged_arange

# An assignment costs about 0.5 microseconds a row whatever its length. Indexing costs less a row,
# 6 microseconds a shard, and a second pass over the bytes: it wins for many short rows.
SHORT_ROW = 8192  # bytes
_MANY_ROWS = 8  # of each shard


@dataclass(frozen=True)
class Spans:
    """Spans of lines that rows take in the arrays of their shards.

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

    The source gives the array of a shard; `one_by_one` lets each go before the next is asked for.
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
    elif one_by_one or (out.nbytes < SHORT_ROW * num_rows and num_rows > _MANY_ROWS * len(shards)):
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
    # by shard, so that each is read once; put into the order asked for at the end
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
            # NumPy would buffer `out` in its usual mode; no line is out of range here
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


@dataclass(frozen=True)
class RowLayout:
    """Find rows by number.

    Attributes:
        first_rows: First row of each shard, and the number of rows last.
        first_tokens: First token of each shard, and the number of tokens last.
        tokens_per_row: Tokens of every row, or None where rows are ragged.
        offsets: First token of each row and the number of tokens last, counted through all shards;
            empty where `tokens_per_row` says it.
    """

    first_rows: Int64[np.ndarray, " shards_plus_1"]
    first_tokens: Int64[np.ndarray, " shards_plus_1"]
    tokens_per_row: int | None
    offsets: Int64[np.ndarray, " rows_plus_1"]

    @classmethod
    def read(
        cls,
        shards: Sequence[Mapping[str, ArrayLocation]],
        receipts: Sequence[Mapping[str, Any]],
        tokens_per_row: int | None,
    ) -> "RowLayout":
        """Read the layout of the shards and compare it with their receipts.

        Raises:
            StoreCorruptError: They contradict each other.
        """
        rows = [arrays["ids"].shape[0] for arrays in shards]
        if rows != [receipt["rows"] for receipt in receipts]:
            raise StoreCorruptError("the shards have other rows than the manifest")
        ragged = tokens_per_row is None
        tokens = [
            arrays["values"].shape[0] * (1 if tokens_per_row is None else tokens_per_row)
            for arrays in shards
        ]
        first_tokens = np.cumsum([0, *tokens], dtype=np.int64)
        offsets = [np.array(arrays["offsets"].read()) for arrays in shards] if ragged else []
        for part, num_rows, num_tokens in zip(offsets, rows, tokens, strict=False):
            right = len(part) == num_rows + 1 and part[0] == 0 and part[-1] == num_tokens
            # every row has a token; compared, as differences of 64 bits may wrap around
            if not right or (part[1:] <= part[:-1]).any():
                raise StoreCorruptError("the offsets of a shard contradict its values")
        joined = [part[:-1] + first for part, first in zip(offsets, first_tokens, strict=False)]
        return cls(
            first_rows=np.cumsum([0, *rows], dtype=np.int64),
            first_tokens=first_tokens,
            tokens_per_row=tokens_per_row,
            offsets=np.concatenate([*joined, first_tokens[-1:]]).astype(np.int64),
        )

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        return int(self.first_rows[-1])

    @property
    def num_tokens(self) -> int:
        """Return the number of tokens."""
        return int(self.first_tokens[-1])

    @cached_property
    def lengths(self) -> Int64[np.ndarray, " rows"]:
        """Return the number of tokens of each row."""
        if self.tokens_per_row is None:
            return np.diff(self.offsets)
        return np.full(self.num_rows, self.tokens_per_row, dtype=np.int64)

    def check(self, rows: Sequence[int] | Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return row numbers as an array.

        Raises:
            IndexError: A row number is negative or not below the number of rows.
        """
        numbers = np.asarray(rows, dtype=np.int64)
        if numbers.size and not (numbers.min() >= 0 and numbers.max() < self.num_rows):
            raise IndexError(f"rows must be in [0, {self.num_rows})")
        return numbers

    def tokens_before(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the first token of each row, counted through the whole store."""
        return self.offsets[rows] if self.tokens_per_row is None else rows * self.tokens_per_row

    def token_spans(self, rows: Int64[np.ndarray, " n"]) -> Spans:
        """Return where the tokens of each row lie: whole rows where they are of one length."""
        spans = self.row_spans(rows)
        if self.tokens_per_row is not None:
            return spans
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        return Spans(spans.shard, starts - self.first_tokens[spans.shard], lengths)

    def row_spans(self, rows: Int64[np.ndarray, " n"]) -> Spans:
        """Return where each row lies in the arrays of one line a row."""
        shard = np.searchsorted(self.first_rows, rows, side="right") - 1
        return Spans(shard, rows - self.first_rows[shard])

    def offsets_of(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n_plus_1"]:
        """Return the first token of each of these rows when they follow each other."""
        if self.tokens_per_row is not None:
            return np.arange(len(rows) + 1) * self.tokens_per_row
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
