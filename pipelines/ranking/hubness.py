"""Correct scores for gallery rows that are near to every query; still inner products.

Both corrections take a number of its own from each gallery row: the logarithm of how strongly a
bank of queries is drawn to it. Written as one more feature of the vectors, every search stays one
of inner products. Axis names: `q` queries, `g` gallery rows, `b` rows of the bank.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float32, Int64

from .normalisation import PUBLISHED, SHARPNESS, STATIC, Normalisation
from .ranking import Direction

_SINGLE = 40.0  # up to here exp(-2 sharpness) is a normal number in float32
_BLOCK_SCORES = 2**22  # scores held at once: 16 MiB in float32


def querybank(
    direction: Direction,
    bank: Float32[np.ndarray, "b embed"],
    normalisation: Normalisation = PUBLISHED,
) -> Direction:
    """Return the direction with scores normalised by a bank of queries that are not tested.

    Source: Bogolin et al. 2022, Cross Modal Retrieval with Querybank Normalisation
    (arXiv 2112.12777), dynamic inverted softmax with one activation a query. Their score is
    exp(s x) / sum over the bank of exp(s b); we rank by its logarithm, over s. The static one is
    the inverted softmax of Smith et al. 2017 (arXiv 1702.03859). All vectors are of unit length,
    and the bank is of the queries' kind.
    """
    pull, first = _pull(bank, direction.gallery, normalisation.sharpness)
    if normalisation.rule == STATIC:
        return _with_offsets(direction, pull, np.ones(len(direction.queries), dtype=bool))
    # the dynamic rule, as published: only rows that attract some query of the bank are corrected
    active = np.zeros(len(direction.gallery), dtype=bool)
    active[first] = True
    _, nearest = _pull(direction.queries, direction.gallery, SHARPNESS, direction.self_rows)
    return _with_offsets(direction, pull, active[nearest])


def dual_softmax(direction: Direction) -> Direction:
    """Return the direction with scores that all its queries have had a say in.

    The logarithm of the product, over twice the sharpness, less what is the same for all rows of a
    query.

    Source: Cheng et al. 2021, CAMoE and Dual Softmax Loss (arXiv 2109.04290), and Sun et al. 2021,
    LoFTR (arXiv 2104.00680), equation 2. The former multiplies the cosine by one softmax; we take
    the product of both, as the latter.
    """
    pull, _ = _pull(direction.queries, direction.gallery, SHARPNESS, direction.self_rows)
    everywhere = np.ones(len(direction.queries), dtype=bool)
    return _with_offsets(direction, pull / np.float32(2.0), everywhere)


def _with_offsets(
    direction: Direction, pull: Float32[np.ndarray, " g"], applies: Bool[np.ndarray, " q"]
) -> Direction:
    """Return vectors whose inner product is the cosine less `pull`, for queries it applies to."""
    queries = np.concatenate([direction.queries, applies[:, None].astype(np.float32)], axis=1)
    gallery = np.concatenate([direction.gallery, -pull[:, None]], axis=1)
    return replace(direction, queries=queries, gallery=gallery)


def _pull(
    queries: Float32[np.ndarray, "b embed"],
    gallery: Float32[np.ndarray, "g embed"],
    sharpness: float,
    self_rows: Int64[np.ndarray, " b"] | None = None,
) -> tuple[Float32[np.ndarray, " g"], Int64[np.ndarray, " b"]]:
    """Return log(sum over queries of exp(s x)) / s of each gallery row, and each query's first row.

    Cosines are at most 1, so sums of exp(s (x - 1)) neither overflow nor, up to s = 40, vanish;
    beyond, the exponent is taken in float64.
    """
    total = np.zeros(len(gallery))
    first = np.empty(len(queries), dtype=np.int64)
    size = max(1, _BLOCK_SCORES // len(gallery))
    for start in range(0, len(queries), size):
        block = slice(start, start + size)
        scores = queries[block] @ gallery.T
        # a text is no answer to itself, so that it may not be drawn to itself either
        if self_rows is not None:
            scores[np.arange(len(scores)), self_rows[block]] = -np.inf
        first[block] = scores.argmax(axis=1)
        # in float32 as far as it goes: half the memory of the largest array here
        exponents = np.float32(sharpness) * (scores - np.float32(1.0))
        if sharpness > _SINGLE:
            exponents = sharpness * (scores.astype(np.float64) - 1.0)
        total += np.exp(exponents).sum(axis=0, dtype=np.float64)
    # of a row that no query but its own may find the sum is 0, which has no logarithm
    smallest = np.finfo(np.float64).tiny
    pull = np.log(np.maximum(total, smallest)) / sharpness + 1.0
    return pull.astype(np.float32), first
