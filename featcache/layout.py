"""Which rows and tokens of a store are in which shard.

Axis names: `n` asked rows, `shards_plus_1` and `rows_plus_1` counts from zero to the total.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int64

from .copying import Spans
from .errors import StoreCorruptError
from .store.containers.base import ArrayLocation


@dataclass(frozen=True)
class Layout:
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
    ) -> "Layout":
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
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < self.num_rows):
            raise IndexError(f"rows must be in [0, {self.num_rows})")
        return wanted

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
