"""Rows that belong to each of others, in two arrays."""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Int64


class RowGroups(Mapping[int, tuple[int, ...]]):
    """Rows by the row that they belong to; only those that some belong to are there.

    Of a million pairs it takes 10 MB, and dictionaries of tuples 60.

    Args:
        owners: Row to which each of `rows` belongs.
        rows: Rows; within a group they are in order.
    """

    def __init__(self, owners: Int64[np.ndarray, " n"], rows: Int64[np.ndarray, " n"]) -> None:
        order = np.lexsort((rows, owners))
        self._rows = rows[order]
        self.keys_in_order, starts = np.unique(owners[order], return_index=True)
        # by owner, so that a look-up is no search
        self._group = np.full(int(owners.max(initial=-1)) + 1, -1, dtype=np.int64)
        self._group[self.keys_in_order] = np.arange(len(starts))
        self._bounds = np.append(starts, len(rows))

    @property
    def columns(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Return owner and row of each pair, in order."""
        return np.repeat(self.keys_in_order, np.diff(self._bounds)), self._rows

    def __getitem__(self, owner: int | np.integer) -> tuple[int, ...]:
        group = self._group[owner] if 0 <= owner < len(self._group) else -1
        if group < 0:
            raise KeyError(owner)
        return tuple(self._rows[self._bounds[group] : self._bounds[group + 1]].tolist())

    def __iter__(self) -> Iterator[int]:
        return iter(self.keys_in_order.tolist())

    def __len__(self) -> int:
        return len(self.keys_in_order)
