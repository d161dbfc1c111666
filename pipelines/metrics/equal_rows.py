"""Find rows of vectors that no query can tell apart; arrays in, numbers out.

Axis names: `n` rows, `embed` features of an embedding.
"""

import numpy as np
from jaxtyping import Float32, Int64

WITHIN = 1e-5  # distance of equal unit vectors: their scores differ by rounding alone
_CELL = 1e-4  # side of a cell: ten times `WITHIN`, so that few equal rows lie across a border
_PROJECTIONS = 12  # by which rows are sorted into cells
_SHIFTS = (0.0, 0.5)  # of the grid, in cells: what one grid cuts apart the other holds together


def equal_rows(vectors: Float32[np.ndarray, "n embed"]) -> Int64[np.ndarray, " n"]:
    """Return for each row the first one that it is equal to, which may be itself.

    Rows are sorted into cells by some random projections and compared within a cell, so that a
    million rows take seconds. Two rows at a distance near `WITHIN` may pass for different ones;
    rows that are equal to rounding do so once in millions.

    Args:
        vectors: Rows of length 1.
    """
    first = np.arange(len(vectors))
    axes = np.random.default_rng(0).standard_normal((vectors.shape[1], _PROJECTIONS))
    axes /= np.linalg.norm(axes, axis=0)
    places = (vectors @ axes.astype(np.float32)).astype(np.float64) / _CELL
    for shift in _SHIFTS:
        for row, earlier in zip(*_equal_in_cells(vectors, places + shift), strict=True):
            first[row] = min(first[row], first[earlier])
    return first


def _equal_in_cells(
    vectors: Float32[np.ndarray, "n embed"], places: np.ndarray
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Return rows, rising, and the first row of each one's cell that it is equal to."""
    mixing = np.random.default_rng(1).integers(2**62, size=places.shape[1]) * 2 + 1
    # int64 wraps around, as a hash may
    cells = (np.floor(places).astype(np.int64) * mixing).sum(axis=1)
    # a cell may hold several sets of equal rows: each turn settles the first set of every cell
    left = np.arange(len(vectors))
    rows, firsts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    while len(left):
        _, start, inverse = np.unique(cells[left], return_index=True, return_inverse=True)
        heads = left[start[inverse]]
        others = left != heads
        left, heads = left[others], heads[others]
        equal = np.linalg.norm(vectors[left] - vectors[heads], axis=1) <= WITHIN
        rows.append(left[equal])
        firsts.append(heads[equal])
        left = left[~equal]
    every, every_first = np.concatenate(rows), np.concatenate(firsts)
    order = np.argsort(every, kind="stable")
    return every[order], every_first[order]


def equal_pairs(vectors: Float32[np.ndarray, "n embed"]) -> list[tuple[int, int]]:
    """Return each row that is equal to an earlier one, after the first of these."""
    first = equal_rows(vectors)
    later = np.flatnonzero(first != np.arange(len(first)))
    return list(zip(first[later].tolist(), later.tolist(), strict=True))
