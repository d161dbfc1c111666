"""Agreement of scores with people's judgement of the same pairs; arrays in, numbers out.

Axis names: `n` pairs, `draws` bootstrap draws, `distinct` distinct scores, `points` of a curve.
`weights` say how often each draw holds each pair: ones for the measured number itself.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

_SAME = 1e-12  # a spread below this share of the values is rounding


class ValueOrder:
    """Ascending order of some values, equal ones in one group.

    Args:
        values: One number a pair.
    """

    def __init__(self, values: Float64[np.ndarray, " n"]) -> None:
        # sorted once; each bootstrap draw then only adds up weights
        _, self._group_of = np.unique(values, return_inverse=True)
        self._order = np.argsort(self._group_of, kind="stable")
        self._starts = np.flatnonzero(np.diff(self._group_of[self._order], prepend=-1))

    def sums(self, weights: Int64[np.ndarray, "draws n"]) -> Int64[np.ndarray, "draws distinct"]:
        """Return the weight of each distinct value, from the least to the largest."""
        sums: np.ndarray = np.add.reduceat(weights[:, self._order], self._starts, axis=1)
        return sums

    def ranks(self, weights: Int64[np.ndarray, "draws n"]) -> Float64[np.ndarray, "draws n"]:
        """Return the rank of each value, from 1; equal ones share the mean of theirs."""
        sums = self.sums(weights)
        below = np.cumsum(sums, axis=1) - sums
        ranks: np.ndarray = (below + (sums + 1) / 2)[:, self._group_of]
        return ranks


def auroc(
    ranking: ValueOrder, labels: Bool[np.ndarray, " n"], weights: Int64[np.ndarray, "draws n"]
) -> Float64[np.ndarray, " draws"]:
    """Return how likely a positive scores higher than a negative, in [0, 1]; a tie counts half.

    Draws of one class alone are not a number.

    Of two positives one is above the only negative and one ties with it: (1 + 1 / 2) / 2.

    >>> scores, labels = ValueOrder(np.array([0.9, 0.4, 0.4])), np.array([True, True, False])
    >>> auroc(scores, labels, np.ones((1, 3), dtype=np.int64))
    array([0.75])

    Source: Hanley and McNeil, The meaning and use of the area under a ROC curve, 1982.
    """
    positives, negatives = (ranking.sums(weights * members) for members in (labels, ~labels))
    # over distinct scores, not pairs of pairs: the sum is that of Mann and Whitney
    below = np.cumsum(negatives, axis=1) - negatives
    above = (positives * (below + negatives / 2)).sum(axis=1)
    return _share(above, positives.sum(axis=1) * negatives.sum(axis=1))


def average_precision(
    ranking: ValueOrder, labels: Bool[np.ndarray, " n"], weights: Int64[np.ndarray, "draws n"]
) -> Float64[np.ndarray, " draws"]:
    """Return the sum over thresholds, highest first, of precision times the recall it adds.

    In [0, 1]; draws without a positive are not a number.
    """
    positives, negatives = (
        ranking.sums(weights * members)[:, ::-1] for members in (labels, ~labels)
    )
    hits = np.cumsum(positives, axis=1)
    precision = hits / np.maximum(hits + np.cumsum(negatives, axis=1), 1)
    return _share((positives * precision).sum(axis=1), positives.sum(axis=1))


def at_threshold(
    predicted: Bool[np.ndarray, " n"],
    labels: Bool[np.ndarray, " n"],
    weights: Int64[np.ndarray, "draws n"],
) -> dict[str, Float64[np.ndarray, " draws"]]:
    """Return `accuracy`, and `precision`, `recall` and `f1` of each class, in [0, 1].

    Keys are such as `precision_1`; class 1 is what is alike. A precision, recall or F1 whose
    denominator is zero is 0.
    """
    cells = {
        (answer, truth): weights @ ((predicted == bool(answer)) & (labels == bool(truth)))
        for answer in (0, 1)
        for truth in (0, 1)
    }
    shares = {"accuracy": (cells[0, 0] + cells[1, 1]) / weights.sum(axis=1)}
    for label in (0, 1):
        right = cells[label, label]
        said = right + cells[label, 1 - label]
        there = right + cells[1 - label, label]
        shares[f"precision_{label}"] = right / np.maximum(said, 1)
        shares[f"recall_{label}"] = right / np.maximum(there, 1)
        shares[f"f1_{label}"] = 2 * right / np.maximum(said + there, 1)
    return shares


def fit_threshold(scores: Float64[np.ndarray, " n"], labels: Bool[np.ndarray, " n"]) -> float:
    """Return the threshold with the highest accuracy where a score of at least it is class 1.

    >>> round(fit_threshold(np.array([0.2, 0.4, 0.8]), np.array([False, False, True])), 6)
    0.6

    Between two scores it is their middle; of several that are as good, the highest. If it is best
    to call no pair alike, it is just above the largest score.
    """
    # equal scores fall on one side together, whatever the threshold
    values, group_of = np.unique(scores, return_inverse=True)
    positives = np.bincount(group_of, weights=labels, minlength=len(values))
    negatives = np.bincount(group_of, weights=~labels, minlength=len(values))
    # right answers if all from the i-th distinct score on are called alike; the last: none is
    right = np.append(0, np.cumsum(negatives)) + np.append(np.cumsum(positives[::-1])[::-1], 0)
    best = int(np.flatnonzero(right == right.max())[-1])
    if best == len(values):
        return float(np.nextafter(values[-1], np.inf))
    return float(values[best] if best == 0 else (values[best - 1] + values[best]) / 2)


def pearson(
    first: Float64[np.ndarray, " n"],
    second: Float64[np.ndarray, " n"],
    weights: Int64[np.ndarray, "draws n"],
) -> Float64[np.ndarray, " draws"]:
    """Return the linear correlation, in [-1, 1]; not a number where one side does not vary."""
    # centred before squares are taken: else the variance is a small difference of large numbers
    x, y = first - first.mean(), second - second.mean()
    count = weights.sum(axis=1)
    sums = [weights @ values / count for values in (x, y, x**2, y**2, x * y)]
    floors = [(_SAME * np.abs(values).max()) ** 2 for values in (first, second)]
    return _correlation(sums, floors)


def spearman(
    first: ValueOrder, second: ValueOrder, weights: Int64[np.ndarray, "draws n"]
) -> Float64[np.ndarray, " draws"]:
    """Return the linear correlation of ranks, in [-1, 1]; equal values share their mean rank.

    Not a number where one side does not vary.
    """
    count = weights.sum(axis=1)
    # the mean of all ranks is this whatever the ties
    middle = (count[:, None] + 1) / 2
    x, y = (ranking.ranks(weights) - middle for ranking in (first, second))
    products = (x, y, x**2, y**2, x * y)
    return _correlation([(weights * values).sum(axis=1) / count for values in products], [0.0, 0.0])


def _correlation(
    means: list[Float64[np.ndarray, " draws"]], floors: list[float]
) -> Float64[np.ndarray, " draws"]:
    """Return the correlation from the means of x, y, x^2, y^2 and x y."""
    variances = [means[2] - means[0] ** 2, means[3] - means[1] ** 2]
    varies = (variances[0] > floors[0]) & (variances[1] > floors[1])
    together = means[4] - means[0] * means[1]
    return _share(together, np.where(varies, np.sqrt(np.abs(variances[0] * variances[1])), 0.0))


def tolerance_curve(
    scores: Float64[np.ndarray, " n"],
    grades: Float64[np.ndarray, " n"],
    tolerances: Float64[np.ndarray, " points"],
    *,
    num_bins: int = 5,
) -> Mapping[str, tuple[int, Float64[np.ndarray, " points"]]]:
    """Return for each bin of grades its size, and the percent of its scores within each tolerance.

    A score is within e of its grade if |score - grade| <= e. The first bin holds grades up to
    1 / `num_bins`, both ends included, each other one those above the one before; keys are such as
    `0.2-0.4`. An empty bin is left out.

    Source: LightCRL, arXiv 2403.04650; lightweightCRL, commit e3421ad, text_text.ipynb.

    Args:
        scores: Cosines.
        grades: Judgements in [0, 1].
        tolerances: Each e.
        num_bins: Number of bins, of equal width.
    """
    apart = np.abs(scores - grades)
    curves = {}
    for name, members in _bins(grades, num_bins).items():
        inside = np.sort(apart[members])
        within = np.searchsorted(inside, tolerances, side="right")
        curves[name] = (len(inside), 100.0 * within / len(inside))
    return curves


def shares_within(
    scores: Float64[np.ndarray, " n"],
    grades: Float64[np.ndarray, " n"],
    weights: Int64[np.ndarray, "draws n"],
    *,
    tolerance: float,
    num_bins: int = 5,
) -> dict[str, Float64[np.ndarray, " draws"]]:
    """Return the share of each bin that `tolerance_curve` has at one tolerance, in [0, 1]."""
    within = np.abs(scores - grades) <= tolerance
    return {
        name: _share(weights @ (members & within), weights @ members)
        for name, members in _bins(grades, num_bins).items()
    }


def _bins(grades: Float64[np.ndarray, " n"], num_bins: int) -> dict[str, Bool[np.ndarray, " n"]]:
    """Return which grades are in each bin that has any."""
    # a grade such as (3.4 - 1) / 4 may come out a little above the 0.6 that it is
    bin_of = np.clip(np.ceil(np.round(grades * num_bins, 9)).astype(int) - 1, 0, None)
    return {
        f"{number / num_bins:g}-{(number + 1) / num_bins:g}": bin_of == number
        for number in np.unique(bin_of).tolist()
    }


def _share(
    part: Shaped[np.ndarray, " draws"], whole: Shaped[np.ndarray, " draws"]
) -> Float64[np.ndarray, " draws"]:
    """Return `part / whole`, or not a number where `whole` is 0."""
    shares: np.ndarray = np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)
    return shares
