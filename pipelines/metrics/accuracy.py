"""Accuracy of a classifier: scores of classes and right classes in, numbers out.

Axis names: `n` images, `classes` classes, `seeds` repetitions.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from .intervals import (
    class_mean_interval,
    deviation_interval,
    paired_interval,
    repeated_interval,
    share_interval,
)
from .number import Number

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
        "95 %: of top_k the score interval of a share (Wilson); of mean_per_class that of the mean "
        "of such shares (Zou and Donner), for as many images of each class"
    ),
}


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
    numbers = top_numbers(ranks, num_classes=num_classes)
    # over the classes that have an image: a split may lack some of the names
    per_class = [ranks[labels == name] == 1 for name in np.unique(labels)]
    numbers["mean_per_class"] = Number(
        value=float(np.mean([100.0 * hits.mean() for hits in per_class])),
        num=len(ranks),
        interval=class_mean_interval(per_class),
        chance=100.0 / num_classes,
    )
    return numbers


def top_numbers(ranks: Int64[np.ndarray, " n"], *, num_classes: int) -> dict[str, Number]:
    """Return `top_1` to `top_5`, percent, with the score interval of a share.

    >>> [number.value for number in top_numbers(np.array([1, 3, 2, 1]), num_classes=4).values()]
    [50.0, 75.0, 100.0]
    """
    return {
        f"top_{k}": Number(
            value=float(100.0 * (ranks <= k).mean()),
            num=len(ranks),
            interval=share_interval(ranks <= k),
            chance=100.0 * k / num_classes,
        )
        for k in range(1, min(MOST, num_classes - 1) + 1)
    }


def differences(
    ranks: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " n"], *, num_classes: int
) -> dict[str, Number]:
    """Return how much higher each top-k accuracy is by `ranks` than by `others`, in points.

    Both are of the same images, so that their interval is narrower than those of either allow.

    >>> differences(np.array([1, 1, 2, 2]), np.array([1, 2, 2, 2]), num_classes=2)["top_1"].value
    25.0
    """
    numbers = {}
    for k in sorted({1, min(MOST, num_classes - 1)}):
        hits, other_hits = ranks <= k, others <= k
        numbers[f"top_{k}"] = Number(
            value=float(100.0 * (hits.mean() - other_hits.mean())),
            num=len(ranks),
            interval=paired_interval(hits, other_hits),
            unit="points",
        )
    return numbers


def repeated_numbers(
    ranks: Sequence[Int64[np.ndarray, " n"]], *, num_classes: int
) -> dict[str, Number]:
    """Return the mean top-k accuracies of repetitions on the same images, and their deviation.

    Args:
        ranks: Rank of the right class of each image, by repetition.
        num_classes: Classes to choose from, at least 2.
    """
    numbers = {}
    for k in sorted({1, min(MOST, num_classes - 1)}):
        hits = (np.stack(ranks) <= k).astype(float)
        numbers[f"top_{k}"] = Number(
            value=float(100.0 * hits.mean()),
            num=hits.shape[1],
            interval=repeated_interval(hits),
            chance=100.0 * k / num_classes,
        )
    if len(ranks) > 1:
        means = 100.0 * (np.stack(ranks) == 1).mean(axis=1)
        numbers["deviation_of_top_1"] = Number(
            value=float(means.std(ddof=1)),
            num=len(means),
            interval=deviation_interval(means),
            unit="points",
        )
    return numbers


REPEATED_DEFINITIONS = {
    "interval of few shots": (
        "95 % interval around the mean over the seeds; its half-width squared is that of the seeds "
        "(Student's t, as they are few) plus that of the evaluated images (Wilson); with one seed "
        "that of the images alone, and how much the draw of the shots changes is not known"
    ),
    "deviation_of_top_1": (
        "standard deviation of top_1 over the seeds, percentage points; `num` is their number and "
        "the interval that of the chi-squared distribution"
    ),
}
