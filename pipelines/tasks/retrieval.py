"""Retrieval across two sides, in both directions."""

import time
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, Int64

from ...featcache.errors import SpecError
from ..index import build_index, search
from ..metrics import Relevance, chance_curve, exact_ranks, ranks_in_top, recall_curve
from ..task import PairedEmbeddings, Task

_HEADLINE = (1, 5, 10)
_BLOCK_HITS = 2**21  # hits held at once: 24 MiB of scores and row numbers


class Retrieval(Task):
    """Measure R@k, its whole curve and the median rank, text to image and image to text.

    Between two text encoders: from each side to the other, for another text of the same image.

    Args:
        k: Largest rank of the curve; a smaller gallery cuts it.

    Raises:
        SpecError: `k` is below 1.
    """

    definitions: ClassVar[dict[str, str]] = {
        "recall": (
            "percent of queries with at least one right answer among the first k of the gallery; "
            "for an image any of its texts is right, for a text any other text of its image"
        ),
        "rank": (
            "1 + number of wrong answers that score at least as high as the best right answer; "
            "ties count against the system"
        ),
        "chance": "expected recall of a random order of the same gallery, percent",
        "median_rank": "median over queries of the rank; 1 is perfect",
        "own_text": (
            "between two text encoders the text of the query's own id is left out of its gallery, "
            "neither right nor wrong, and chance is that of the rest; a text whose image has no "
            "other is no query, but stays in the gallery of all others"
        ),
        "recall_sum": "sum of R@1, R@5 and R@10 of both directions, at most 600",
    }

    def __init__(self, *, k: int = 100) -> None:
        if k < 1:
            raise SpecError(f"--k must be at least 1, found {k}")
        self.k = k

    def run(self, embeddings: PairedEmbeddings) -> dict[str, Any]:
        """Return `text_to_image`, `image_to_text` and `recall_sum`.

        Between two text encoders the directions are called after their sides.
        """
        # not a number compares as false with everything, and would rank first
        assert np.isfinite(embeddings.images).all()
        assert np.isfinite(embeddings.texts).all()
        first, second = (side.value for side in embeddings.sides)
        own = embeddings.same_texts
        directions = {
            f"{second}_to_{first}": self._direction(
                embeddings.texts, embeddings.images, embeddings.images_of_text, own=own
            ),
            f"{first}_to_{second}": self._direction(
                embeddings.images, embeddings.texts, embeddings.texts_of_image, own=own
            ),
        }
        total = sum(
            value for direction in directions.values() for value in direction["recall"].values()
        )
        return {**directions, "recall_sum": total}

    def _direction(
        self,
        queries: Float32[np.ndarray, "q embed"],
        gallery: Float32[np.ndarray, "g embed"],
        relevance: Relevance,
        *,
        own: bool,
    ) -> dict[str, Any]:
        """Measure one direction; with `own`, row i of the gallery is query i itself."""
        began = time.perf_counter()
        asked = np.flatnonzero(relevance.counts)
        if own:
            queries, relevance = queries[asked], relevance.take(asked)
        assert len(asked) == len(queries) > 0, "every query has a right answer"
        num_gallery = len(gallery) - own
        depth = min(max(self.k, *_HEADLINE), num_gallery)
        ranks = self._ranks(queries, gallery, relevance, depth, asked if own else None)
        curve = recall_curve(ranks, depth)
        chance = chance_curve(relevance.counts, num_gallery=num_gallery, k=depth)
        headline = [k for k in _HEADLINE if k <= depth]
        return {
            "num_queries": len(queries),
            "num_gallery": num_gallery,
            "recall": {str(k): float(curve[k - 1]) for k in headline},
            "chance": {str(k): float(chance[k - 1]) for k in headline},
            "median_rank": float(np.median(ranks)),
            "curve": {
                "k": list(range(1, min(self.k, depth) + 1)),
                "recall": [float(value) for value in curve[: self.k]],
                "chance": [float(value) for value in chance[: self.k]],
            },
            "seconds": time.perf_counter() - began,
        }

    def _ranks(
        self,
        queries: Float32[np.ndarray, "q embed"],
        gallery: Float32[np.ndarray, "g embed"],
        relevance: Relevance,
        depth: int,
        own: Int64[np.ndarray, " q"] | None,
    ) -> Int64[np.ndarray, " q"]:
        """Return the rank of each query, from the top `depth` where that tells, else by counting.

        Blocks of queries keep the memory bounded whatever `depth` is.
        """
        index = build_index(gallery)
        size = max(1, _BLOCK_HITS // depth)
        ranks = np.empty(len(queries), dtype=np.int64)
        for start in range(0, len(queries), size):
            block = np.arange(start, min(start + size, len(queries)))
            scores, rows = search(index, queries[block], depth)
            ranks[block] = ranks_in_top(
                scores,
                rows,
                relevance.take(block),
                num_gallery=len(gallery),
                own=None if own is None else own[block],
            )
        beyond = np.flatnonzero(ranks == 0)
        if len(beyond):
            ranks[beyond] = exact_ranks(
                queries[beyond],
                gallery,
                relevance.take(beyond),
                None if own is None else own[beyond],
            )
        return ranks
