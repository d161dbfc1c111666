"""Retrieval metrics as pure functions on arrays; no models, no files.

Axis names: `q` queries, `g` gallery rows, `k` ranks looked at, `embed` features of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

_BLOCK_SCORES = 2**22  # scores held at once when exact ranks are counted: 16 MiB in float32


@dataclass(frozen=True)
class Relevance:
    """Say which gallery rows are right answers to each query.

    Attributes:
        rows: Relevant gallery rows of all queries, one query after the other.
        offsets: First entry of each query in `rows`, and the total last.
    """

    rows: Int64[np.ndarray, " total"]
    offsets: Int64[np.ndarray, " q_plus_1"]

    @classmethod
    def of(cls, lists: Sequence[Sequence[int]]) -> "Relevance":
        """Build it from one list of gallery rows a query."""
        offsets = np.cumsum([0, *(len(rows) for rows in lists)]).astype(np.int64)
        return cls(np.array([row for rows in lists for row in rows], dtype=np.int64), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> Int64[np.ndarray, " q"]:
        """Return the number of right answers of each query."""
        return np.diff(self.offsets)

    def take(self, queries: Int64[np.ndarray, " chosen"]) -> "Relevance":
        """Return the right answers of some of the queries, in the given order."""
        spans = [self.rows[self.offsets[query] : self.offsets[query + 1]] for query in queries]
        offsets = np.concatenate([[0], np.cumsum(self.counts[queries])]).astype(np.int64)
        return Relevance(np.concatenate([np.empty(0, np.int64), *spans]), offsets)

    def contains(
        self, queries: Int64[np.ndarray, " q"], rows: Int64[np.ndarray, "q k"]
    ) -> Bool[np.ndarray, "q k"]:
        """Say for each of `rows` whether it is a right answer to the query of its line."""
        size = int(max(self.rows.max(initial=0), rows.max(initial=0))) + 1
        owner = np.repeat(np.arange(len(self)), self.counts)
        return np.isin(queries[:, None] * size + rows, owner * size + self.rows)


def ranks_in_top(
    scores: Float32[np.ndarray, "q k"],
    rows: Int64[np.ndarray, "q k"],
    relevance: Relevance,
    *,
    num_gallery: int,
    own: Int64[np.ndarray, " q"] | None = None,
) -> Int64[np.ndarray, " q"]:
    """Return the rank of each query's best right answer, or 0 where the top k cannot tell.

    The rank is 1 plus the number of wrong answers that score at least as high as the best right
    one: ties count against us. The top k cannot tell when it holds no right answer, or when the
    right answer ties with the last place and the tie may go on beyond it.

    Args:
        scores: Similarities of the top k, highest first.
        rows: Their gallery rows.
        relevance: The right answers; at least one a query.
        num_gallery: Number of gallery rows.
        own: Gallery row that is the query itself, neither right nor wrong; or None for none.
    """
    right = relevance.contains(np.arange(len(rows)), rows)
    best = np.where(right, scores, -np.inf).max(axis=1)
    above = ~right & (scores >= best[:, None])
    wrong_above = (above if own is None else above & (rows != own[:, None])).sum(axis=1)
    beyond = scores.shape[1] < num_gallery
    unknown = ~right.any(axis=1) | (beyond & (best <= scores[:, -1]))
    return np.where(unknown, 0, 1 + wrong_above).astype(np.int64)


def exact_ranks(
    queries: Float32[np.ndarray, "q embed"],
    gallery: Float32[np.ndarray, "g embed"],
    relevance: Relevance,
    own: Int64[np.ndarray, " q"] | None = None,
) -> Int64[np.ndarray, " q"]:
    """Return the rank of each query's best right answer, as `ranks_in_top` defines it.

    Scores are counted block by block; no q x g matrix is held.
    """
    size = max(1, _BLOCK_SCORES // max(1, len(gallery)))
    ranks = np.empty(len(queries), dtype=np.int64)
    for start in range(0, len(queries), size):
        stop = min(start + size, len(queries))
        scores = queries[start:stop] @ gallery.T
        first, last = relevance.offsets[start], relevance.offsets[stop]
        counts = relevance.counts[start:stop]
        line = np.repeat(np.arange(stop - start), counts)
        right = relevance.rows[first:last]
        best = np.full(stop - start, -np.inf, dtype=scores.dtype)
        np.maximum.at(best, line, scores[line, right])
        scores[line, right] = -np.inf
        if own is not None:
            scores[np.arange(stop - start), own[start:stop]] = -np.inf
        ranks[start:stop] = 1 + (scores >= best[:, None]).sum(axis=1)
    return ranks


def recall_curve(ranks: Int64[np.ndarray, " q"], k: int) -> Float[np.ndarray, " k"]:
    """Return R@1 .. R@k in percent: the share of queries whose rank is at most each k."""
    hits = np.bincount(np.minimum(ranks, k + 1), minlength=k + 2)[1 : k + 1]
    return 100.0 * np.cumsum(hits) / len(ranks)


def chance_curve(
    counts: Int64[np.ndarray, " q"], *, num_gallery: int, k: int
) -> Float[np.ndarray, " k"]:
    """Return R@1 .. R@k in percent that a random order of the gallery would get.

    A query with m right answers among g misses the top k with probability
    prod over j < k of (g - m - j) / (g - j).
    """
    values, weights = np.unique(counts, return_counts=True)
    drawn = np.arange(k)
    miss = np.zeros(k)
    for value, weight in zip(values, weights, strict=True):
        wrong_left = np.maximum(num_gallery - value - drawn, 0)
        miss += weight * np.cumprod(wrong_left / np.maximum(num_gallery - drawn, 1))
    return 100.0 * (1.0 - miss / len(counts))
