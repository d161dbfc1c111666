"""Chance level beside each number: the mean over random orders of the gallery, in closed form.

A query has m right answers among the g rows of its gallery; q is the number of queries.
"""

import numpy as np
from jaxtyping import Float, Int64
from scipy.stats import hypergeom


def chance_curve(
    counts: Int64[np.ndarray, " q"], *, num_gallery: int, k: int
) -> Float[np.ndarray, " k"]:
    """Return the expected R@1 .. R@k in percent.

    A query misses the top k with probability prod over j < k of (g - m - j) / (g - j): of two right
    answers among four rows the first is missed with 2 / 4, and the second with 1 / 3 of that.

    >>> chance_curve(np.array([2]), num_gallery=4, k=3).round(1)
    array([ 50. ,  83.3, 100. ])

    Args:
        counts: Number m of right answers of each query, at least 1.
        num_gallery: Number g of gallery rows.
        k: Largest rank.
    """
    values, weights = np.unique(counts, return_counts=True)
    drawn = np.arange(k)
    miss = np.zeros(k)
    for value, weight in zip(values, weights, strict=True):
        wrong_left = np.maximum(num_gallery - value - drawn, 0)
        miss += weight * np.cumprod(wrong_left / np.maximum(num_gallery - drawn, 1))
    return 100.0 * (1.0 - miss / len(counts))


def chance_in_first(
    counts: Int64[np.ndarray, " q"], *, num_gallery: int, depth: int, least: int
) -> float:
    """Return the expected share of queries, percent, with `least` right answers in the first ones.

    Of one query: sum over i >= `least` of C(m, i) C(g - m, d - i) / C(g, d).

    >>> round(chance_in_first(np.array([2]), num_gallery=4, depth=2, least=2), 1)  # 1 of 6 pairs
    16.7

    Args:
        counts: Number m of right answers of each query, at least 1.
        num_gallery: Number g of gallery rows.
        depth: How many of the first are looked at, d.
        least: How many of them are right at least.
    """
    drawn = min(depth, num_gallery)
    return 100.0 * float(hypergeom.sf(least - 1, num_gallery, counts, drawn).mean())


def chance_of_ranks(counts: Int64[np.ndarray, " q"], *, num_gallery: int) -> dict[str, float]:
    """Return the expected `mean_reciprocal_rank` (percent), `mean_rank` and `median_rank`.

    The rank r of the best right answer has the probability that `chance_curve` gains at r; its
    mean is (g + 1) / (m + 1). The median is the least rank that half of all queries reach, or,
    where exactly half reach it, the middle between it and the next that any query has: of one right
    answer in 48 rows (24 + 25) / 2 = 24.5, as the median of the numbers from 1 to 48.

    Args:
        counts: Number m of right answers of each query, at least 1.
        num_gallery: Number g of gallery rows.
    """
    reached = chance_curve(counts, num_gallery=num_gallery, k=num_gallery) / 100.0
    gained = np.diff(reached, prepend=0.0)
    ranks = np.arange(1, num_gallery + 1)
    # sums of fractions may miss a half by rounding
    lower, upper = (1 + int(np.argmax(reached >= half)) for half in (0.5 - 1e-12, 0.5 + 1e-12))
    return {
        "mean_reciprocal_rank": 100.0 * float((gained / ranks).sum()),
        "mean_rank": float(((num_gallery + 1) / (counts + 1)).mean()),
        "median_rank": (lower + upper) / 2,
    }


def chance_average_precision(counts: Int64[np.ndarray, " q"], *, num_gallery: int) -> float:
    """Return the expected mean average precision in percent.

    Of one query: H / g + (m - 1) (g - H) / (g (g - 1)), where H = 1 + 1/2 + ... + 1/g. Place p
    holds a right answer with probability m / g, and any other place one then with probability
    (m - 1) / (g - 1); the precision at p counts itself and the p - 1 before it.

    >>> round(chance_average_precision(np.array([1]), num_gallery=2), 1)  # (1 + 1/2) / 2
    75.0

    Args:
        counts: Number m of right answers of each query, at least 1.
        num_gallery: Number g of gallery rows.
    """
    harmonic = float((1.0 / np.arange(1, num_gallery + 1)).sum())
    others = (counts - 1) * (num_gallery - harmonic) / max(1, num_gallery - 1)
    return 100.0 * float((harmonic + others).mean()) / num_gallery
