"""Retrieval metrics as pure functions on arrays; no models, no files.

Axis names: `q` queries, `g` gallery rows, `k` ranks looked at, `embed` features of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

_BLOCK_SCORES = 2**25  # scores held at once when they are counted: 128 MiB in float32
_QUERIES = 2**10  # of a block: a matrix product of fewer lines is slower
TIE = 1e-6  # scores nearer than that are equal: so far are products in float32 rounded
_FEW_ANSWERS = 16  # right answers of a query, up to which comparing beats sorting the gallery


@dataclass(frozen=True)
class Relevance:
    """Relevant gallery rows of each query.

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
        """Return for each of `rows` whether it is relevant to the query of its line."""
        # a pair of query and row as one number, for which one sorted search serves all queries
        size = int(max(self.rows.max(initial=0), rows.max(initial=0))) + 1
        owner = np.repeat(np.arange(len(self)), self.counts)
        return np.isin(queries[:, None] * size + rows, owner * size + self.rows)


def ranks_in_top(
    scores: Float32[np.ndarray, "q k"],
    rows: Int64[np.ndarray, "q k"],
    relevance: Relevance,
    *,
    num_gallery: int,
    same_item: Int64[np.ndarray, " q"] | None = None,
) -> Int64[np.ndarray, " q"]:
    """Return the rank of each query's best right answer, or 0 where the top k cannot tell.

    The rank is 1 plus the number of wrong answers that score at least as high, to `TIE`, as the
    best right one: ties count against us. The top k cannot tell when it holds no right answer, or
    when the right answer ties with the last place and the tie may go on beyond it.

    Args:
        scores: Similarities of the top k, highest first.
        rows: Their gallery rows.
        relevance: The right answers; at least one a query.
        num_gallery: Number of gallery rows.
        same_item: Gallery row that is the query itself, neither right nor wrong; or None for none.
    """
    right = relevance.contains(np.arange(len(rows)), rows)
    best = np.where(right, scores, -np.inf).max(axis=1)
    above = ~right & (scores >= best[:, None] - TIE)
    wrong_above = (above if same_item is None else above & (rows != same_item[:, None])).sum(axis=1)
    # beyond the last place others may score the same, and would rank before the right answer
    beyond = scores.shape[1] < num_gallery
    unknown = ~right.any(axis=1) | (beyond & (best - TIE <= scores[:, -1]))
    return np.where(unknown, 0, 1 + wrong_above).astype(np.int64)


def wrong_above(
    queries: Float32[np.ndarray, "q embed"],
    gallery: Float32[np.ndarray, "g embed"],
    relevance: Relevance,
    same_item: Int64[np.ndarray, " q"] | None = None,
) -> Int64[np.ndarray, " total"]:
    """Return for each right answer how many wrong ones score at least as high, to `TIE`.

    Scores are counted block by block; no q x g matrix is held.

    Args:
        queries: Their inner products with the gallery are the scores.
        gallery: What is searched.
        relevance: The right answers; the result is in the order of its `rows`.
        same_item: Gallery row that is the query itself, neither right nor wrong; or None for none.
    """
    # in blocks of queries and of gallery rows: all scores of 25,000 by 5,000 take 500 MB
    above = np.empty(len(relevance.rows), dtype=np.int64)
    for start in range(0, len(queries), _QUERIES):
        stop = min(start + _QUERIES, len(queries))
        first, last = relevance.offsets[start], relevance.offsets[stop]
        offsets = relevance.offsets[start : stop + 1] - first
        lines = np.repeat(np.arange(stop - start), np.diff(offsets))
        right = relevance.rows[first:last]
        block = queries[start:stop]
        least = _scores_of_pairs(block, lines, gallery, right) - np.float32(TIE)
        # right answers are no wrong ones, and the query itself is neither
        left_out = (lines, right)
        if same_item is not None:
            left_out = (
                np.concatenate([lines, np.arange(stop - start)]),
                np.concatenate([right, same_item[start:stop]]),
            )
        above[first:last] = _count_wrong(block, gallery, left_out, least, offsets)
    return above


def _scores_of_pairs(
    queries: Float32[np.ndarray, "q embed"],
    lines: Int64[np.ndarray, " pairs"],
    gallery: Float32[np.ndarray, "g embed"],
    rows: Int64[np.ndarray, " pairs"],
) -> Float32[np.ndarray, " pairs"]:
    scores = np.empty(len(rows), dtype=np.float32)
    size = max(1, _BLOCK_SCORES // queries.shape[1])
    for start in range(0, len(rows), size):
        block = slice(start, start + size)
        np.einsum("pe,pe->p", queries[lines[block]], gallery[rows[block]], out=scores[block])
    return scores


def _count_wrong(
    queries: Float32[np.ndarray, "q embed"],
    gallery: Float32[np.ndarray, "g embed"],
    left_out: tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]],
    least: Float32[np.ndarray, " total"],
    offsets: Int64[np.ndarray, " q_plus_1"],
) -> Int64[np.ndarray, " total"]:
    """Return for each of `least` how many scores of its line, but some, are at least as high."""
    # by row, so that those within a block of the gallery are a slice
    order = np.argsort(left_out[1], kind="stable")
    lines, rows = (side[order] for side in left_out)
    size = max(1, _BLOCK_SCORES // len(queries))
    num_wrong = np.zeros(len(least), dtype=np.int64)
    memory = np.empty(len(queries) * min(size, len(gallery)), dtype=np.float32)
    for start in range(0, len(gallery), size):
        block = gallery[start : start + size].T
        scores = memory[: len(queries) * block.shape[1]].reshape(len(queries), -1)
        # fresh memory for each block would take a tenth longer
        np.matmul(queries, block, out=scores)
        inside = slice(*np.searchsorted(rows, (start, start + size)))
        scores[lines[inside], rows[inside] - start] = -np.inf
        num_wrong += _count_above(scores, least, offsets)
    return num_wrong


def _count_above(
    scores: Float32[np.ndarray, "q g"],
    least: Float32[np.ndarray, " total"],
    offsets: Int64[np.ndarray, " q_plus_1"],
) -> Int64[np.ndarray, " total"]:
    """Return for each of `least` how many scores of its line are at least as high."""
    num_above = np.empty(len(least), dtype=np.int64)
    counts = np.diff(offsets)
    # one comparison for each answer costs n, sorting n log n once for all of a query's answers
    if counts.max(initial=0) <= _FEW_ANSWERS:
        for number in range(int(counts.max(initial=0))):
            lines = np.flatnonzero(counts > number)
            for line, place in zip(lines.tolist(), (offsets[lines] + number).tolist(), strict=True):
                num_above[place] = np.count_nonzero(scores[line] >= least[place])
        return num_above
    for line, (start, stop) in enumerate(pairwise(offsets)):
        ascending = np.sort(scores[line])
        num_above[start:stop] = len(ascending) - np.searchsorted(ascending, least[start:stop])
    return num_above


def best_ranks(above: Int64[np.ndarray, " total"], relevance: Relevance) -> Int64[np.ndarray, " q"]:
    """Return the rank of each query's best right answer from `wrong_above`.

    It is 1 plus the number of wrong answers that score at least as high.
    """
    ranks: Int64[np.ndarray, " q"] = 1 + np.minimum.reduceat(above, relevance.offsets[:-1])
    return ranks


def average_precisions(
    above: Int64[np.ndarray, " total"], relevance: Relevance
) -> Float[np.ndarray, " q"]:
    """Return the average precision of each query, from `wrong_above`, between 0 and 1.

    The mean over its right answers of j / (j + w), where the answer is the j-th best of the right
    ones and w wrong ones score at least as high. Without ties that is the usual average precision
    over the whole gallery; of what ties, the wrong answers come first.

    Of two right answers, with none and with 2 wrong ones above: (1 / 1 + 2 / 4) / 2.

    >>> average_precisions(np.array([2, 0]), Relevance.of([[5, 7]]))
    array([0.75])

    Source: Manning, Raghavan and Schuetze, Introduction to Information Retrieval, 2008, section
    8.4; the rule for ties is ours.
    """
    order, places = _order_and_places(above, relevance)
    sums = np.add.reduceat(order / places, relevance.offsets[:-1])
    precisions: Float[np.ndarray, " q"] = sums / relevance.counts
    return precisions


def right_in_first(
    above: Int64[np.ndarray, " total"], relevance: Relevance, depth: int
) -> Int64[np.ndarray, " q"]:
    """Return how many right answers each query has among its first `depth`, from `wrong_above`.

    >>> right_in_first(np.array([2, 0]), Relevance.of([[5, 7]]), depth=3)  # at places 1 and 4
    array([1])
    """
    _, places = _order_and_places(above, relevance)
    num_right: Int64[np.ndarray, " q"] = np.add.reduceat(
        (places <= depth).astype(np.int64), relevance.offsets[:-1]
    )
    return num_right


def _order_and_places(
    above: Int64[np.ndarray, " total"], relevance: Relevance
) -> tuple[Int64[np.ndarray, " total"], Int64[np.ndarray, " total"]]:
    """Return j and j + w of the right answers of each query, the best first.

    The j-th best of the right ones, with w wrong ones at least as high, stands at j + w: of what
    ties, the wrong answers come first.
    """
    lines = np.repeat(np.arange(len(relevance)), relevance.counts)
    order = np.arange(len(above)) - relevance.offsets[lines] + 1
    return order, order + above[np.lexsort((above, lines))]


def exact_ranks(
    queries: Float32[np.ndarray, "q embed"],
    gallery: Float32[np.ndarray, "g embed"],
    relevance: Relevance,
    same_item: Int64[np.ndarray, " q"] | None = None,
) -> Int64[np.ndarray, " q"]:
    """Return the rank of each query's best right answer, as `ranks_in_top` defines it."""
    return best_ranks(wrong_above(queries, gallery, relevance, same_item), relevance)


def recall_curve(ranks: Int64[np.ndarray, " q"], k: int) -> Float[np.ndarray, " k"]:
    """Return R@1 .. R@k in percent: the share of queries whose rank is at most each k.

    >>> recall_curve(np.array([1, 2, 4, 2]), k=3)
    array([25., 75., 75.])
    """
    # a rank beyond k is counted at k + 1, so that memory does not grow with the gallery
    hits = np.bincount(np.minimum(ranks, k + 1), minlength=k + 2)[1 : k + 1]
    return 100.0 * np.cumsum(hits) / len(ranks)


def label_ranks(
    scores: Float[np.ndarray, "q g"], labels: Int64[np.ndarray, " q"]
) -> Int64[np.ndarray, " q"]:
    """Return the rank of the one right answer of each query from 1; ties count against it.

    Unlike `exact_ranks` it takes scores for equal only where no digit differs. A score may be minus
    infinity, for an answer that is not considered, but not NaN.

    >>> label_ranks(np.array([[0.3, 0.9, 0.3]]), np.array([0]))
    array([3])

    Args:
        scores: Scores of all answers for each query.
        labels: Column of the right answer of each query.
    """
    assert not np.isnan(scores).any(), "NaN compares as false and would rank first"
    right_scores = scores[np.arange(len(labels)), labels]
    ranks: np.ndarray = (scores >= right_scores[:, None]).sum(axis=1)
    return ranks.astype(np.int64)
