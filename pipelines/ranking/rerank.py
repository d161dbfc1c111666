"""Re-rank the first answers of a search by a slower model that judges pairs.

NumPy only: what the model is, and how it computes, is its own affair.
"""

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float32, Int64

from ...featcache.errors import DivergedError

_PAIRS = 2**16  # given to a model at once; it may cut them into batches


class Reranker(ABC):
    """Judge how well queries and gallery items belong together, a pair at a time."""

    @abstractmethod
    def score(
        self, queries: Int64[np.ndarray, " pairs"], gallery: Int64[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """Return one score a pair, higher for what belongs together, on any scale.

        Args:
            queries: Row of each pair's query.
            gallery: Row of each pair's gallery item; a query's pairs follow one another.
        """


def judge(
    reranker: Reranker, rows: Int64[np.ndarray, "q k"], *, first: int = 0
) -> Float32[np.ndarray, "q k"]:
    """Return the score of each of the first answers of a search, in the order of that search.

    `rows` and `first` are those of `rerank`.

    Raises:
        DivergedError: A score is not finite.
    """
    num, k = rows.shape
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)
    # in blocks: rows and places of all pairs would take more memory than their scores
    at_once = max(1, _PAIRS // max(1, k))
    for start in range(0, num, at_once):
        block = rows[start : start + at_once]
        lines, places = np.nonzero(block >= 0)
        judged = reranker.score(first + start + lines, block[lines, places])
        assert judged.shape == lines.shape
        if not np.isfinite(judged).all():
            line = int(lines[np.argmin(np.isfinite(judged))])
            raise DivergedError(f"a score of query {first + start + line} is not finite")
        scores[start + lines, places] = judged
    return scores


def rerank(
    reranker: Reranker, rows: Int64[np.ndarray, "q k"], *, first: int = 0
) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
    """Return scores and gallery rows of the first answers, put into the reranker's order.

    What it judges equal stays in the order of the first search. What the search has not found can
    not come back: R@1 is at most the first search's R@k.

    Args:
        reranker: The judge.
        rows: The first k answers of each query, as `index.search` returns them; -1 is none, gets
            the score -inf and stays last.
        first: Row of the first of these queries.

    Raises:
        DivergedError: A score is not finite.
    """
    scores = judge(reranker, rows, first=first)
    # stable: what is judged equal keeps the order of the first search
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
