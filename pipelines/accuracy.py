"""How often a classifier is right: scores of classes and right classes in, numbers out.

Axis names: `n` images, `classes` classes, `seeds` repetitions.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy import stats

from .bootstrap import NORMAL, mean_interval, share_interval, statistic_interval
from .evaluation import Number

MOST = 5  # largest k of a top-k accuracy

DEFINITIONS = {
    "top_k": (
        "percent of images whose right class is among the k classes of the highest scores; a wrong "
        "class with the same score counts as higher"
    ),
    "mean_per_class": (
        "mean over the classes of the percent of their images that are right at top 1; classes "
        "without an evaluated image are left out"
    ),
    "chance": "what one gets who names classes at random, each as often as any other",
    "interval": (
        "95 %: of top_k the score interval of a share (Wilson), else the percentile interval over "
        "evaluated images that are drawn again"
    ),
}


def truth_ranks(
    scores: Float32[np.ndarray, "n classes"], labels: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """Return the rank of the right class of each image, 1 for the first; ties count against it.

    A score may be minus infinity, for a class that is not considered, but not NaN.
    """
    assert not np.isnan(scores).any(), "NaN compares as false and would rank first"
    own = scores[np.arange(len(labels)), labels]
    ranks: np.ndarray = (scores >= own[:, None]).sum(axis=1)
    return ranks.astype(np.int64)


def accuracy_numbers(
    ranks: Int64[np.ndarray, " n"], labels: Int64[np.ndarray, " n"], *, num_classes: int
) -> dict[str, Number]:
    """Return `top_1` to `top_5` and `mean_per_class`, percent.

    Where there are no more than five classes, the last k is one less than their number.

    Args:
        ranks: Rank of the right class of each image.
        labels: Right class of each image.
        num_classes: Classes to choose from, at least 2.
    """
    count = len(ranks)
    found = {}
    for k in range(1, min(MOST, num_classes - 1) + 1):
        hits = ranks <= k
        found[f"top_{k}"] = Number(
            value=float(100.0 * hits.mean()),
            num=count,
            interval=share_interval(hits),
            chance=100.0 * k / num_classes,
        )
    right = np.where(ranks == 1, 100.0, 0.0)

    def per_class(rows: Int64[np.ndarray, " n"]) -> float:
        sizes = np.bincount(labels[rows], minlength=num_classes)
        sums = np.bincount(labels[rows], weights=right[rows], minlength=num_classes)
        return float((sums[sizes > 0] / sizes[sizes > 0]).mean())

    found["mean_per_class"] = Number(
        value=per_class(np.arange(count)),
        num=count,
        interval=statistic_interval(per_class, count),
        chance=100.0 / num_classes,
    )
    return found


def differences(
    ranks: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " n"], *, num_classes: int
) -> dict[str, Number]:
    """Return how much higher each top-k accuracy is by `ranks` than by `others`, in points.

    Both are of the same images, so that their interval is narrower than those of either allow.
    """
    found = {}
    for k in sorted({1, min(MOST, num_classes - 1)}):
        gains = 100.0 * ((ranks <= k).astype(float) - (others <= k).astype(float))
        found[f"top_{k}"] = Number(
            value=float(gains.mean()), num=len(ranks), interval=mean_interval(gains), unit="points"
        )
    return found


def repeated_numbers(
    ranks: Sequence[Int64[np.ndarray, " n"]], *, num_classes: int
) -> dict[str, Number]:
    """Return the mean top-k accuracies of repetitions on the same images, and their deviation.

    Args:
        ranks: Rank of the right class of each image, by repetition.
        num_classes: Classes to choose from, at least 2.
    """
    found = {}
    for k in sorted({1, min(MOST, num_classes - 1)}):
        hits = 100.0 * (np.stack(ranks) <= k).astype(float)
        found[f"top_{k}"] = Number(
            value=float(hits.mean()),
            num=hits.shape[1],
            interval=repeated_interval(hits),
            chance=100.0 * k / num_classes,
        )
    if len(ranks) > 1:
        means = 100.0 * (np.stack(ranks) == 1).mean(axis=1)
        found["deviation_of_top_1"] = Number(
            value=float(means.std(ddof=1)),
            num=len(means),
            interval=deviation_interval(means),
            unit="points",
        )
    return found


REPEATED_DEFINITIONS = {
    "interval of few shots": (
        "95 % interval around the mean over the seeds; its half-width squared is that of the seeds "
        "(Student's t, as they are few) plus that of the evaluated images (normal); with one seed "
        "that of the images alone, and how much the draw of the shots changes is not known"
    ),
    "deviation_of_top_1": (
        "standard deviation of top_1 over the seeds, percentage points; `num` is their number and "
        "the interval that of the chi-squared distribution"
    ),
}


def repeated_interval(hits: Float64[np.ndarray, "seeds n"]) -> tuple[float, float]:
    """Return the 95 % interval of the mean over repetitions and images, both drawn at random.

    h^2 = (t s / sqrt(S))^2 + (z u / sqrt(n))^2, s the standard deviation of the S means of the
    repetitions, t the 97.5 % quantile of Student's distribution of S - 1 degrees of freedom, u the
    standard deviation of the n means of the images, z the normal quantile. A bootstrap over a
    handful of repetitions would be too narrow: it can draw none but those few. A single image has
    no deviation and says nothing about others: it leaves everything from 0 to 100.

    Args:
        hits: 100 where repetition i is right about image j, else 0.
    """
    num_seeds, count = hits.shape
    if count == 1:
        return 0.0, 100.0
    squared = (NORMAL * hits.mean(axis=0).std(ddof=1)) ** 2 / count
    if num_seeds > 1:
        quantile = float(stats.t.ppf(0.975, num_seeds - 1))
        squared += (quantile * hits.mean(axis=1).std(ddof=1)) ** 2 / num_seeds
    middle, half = float(hits.mean()), float(np.sqrt(squared))
    return max(0.0, middle - half), min(100.0, middle + half)


def deviation_interval(means: Float64[np.ndarray, " seeds"]) -> tuple[float, float]:
    """Return the 95 % interval of the standard deviation of what `means` are drawn from.

    s sqrt((S - 1) / q), q the 97.5 % and the 2.5 % quantile of chi-squared of S - 1 degrees.
    """
    degrees = len(means) - 1
    low, high = (
        float(means.std(ddof=1) * np.sqrt(degrees / stats.chi2.ppf(share, degrees)))
        for share in (0.975, 0.025)
    )
    return low, high
