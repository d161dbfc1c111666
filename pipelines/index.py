"""Exact nearest neighbours through FAISS."""

import faiss
import numpy as np
from jaxtyping import Float32, Int64


def build_index(gallery: Float32[np.ndarray, "g embed"]) -> faiss.Index:
    """Return a flat inner-product index; on unit vectors the inner product is the cosine."""
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(np.ascontiguousarray(gallery))
    return index


def search(
    index: faiss.Index, queries: Float32[np.ndarray, "q embed"], k: int
) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
    """Return scores and gallery rows of the `k` nearest, highest first.

    `k` is at most the size of the index.
    """
    assert 1 <= k <= index.ntotal
    scores, rows = index.search(np.ascontiguousarray(queries), k)
    return scores, rows
