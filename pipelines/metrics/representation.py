"""Similarity of two encoders' features of the same items, before training; arrays in, numbers out.

Axis names: `n` items, `d` and `e` features of an item on either side, `k` neighbours, `t` training
items, `h` held-out items.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

from .ranks import label_ranks
from .vectors import unit

_BLOCK = 2**10  # lines of a similarity matrix held at once
# Penalties of a ridge map in units of the mean eigenvalue of X X^T, from nearly none to most.
_PENALTIES = np.logspace(-4, 2, 13)


@dataclass(frozen=True)
class Alignment:
    """Linear CKA of two sets of features, with its chance level.

    Attributes:
        value: In [0, 1].
        chance: Its mean over all orders of one side.
    """

    value: float
    chance: float


def linear_cka(first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "n e"]) -> Alignment:
    """Return the linear centred kernel alignment |Y^T X|^2 / (|X^T X| |Y^T Y|) of centred X and Y.

    Norms are Frobenius'. With kernels K = X X^T and L = Y Y^T, the mean of tr(K P L P^T) over all
    orders P of the items is tr(K) tr(L) / (n - 1), which gives the chance level: not zero, and the
    larger the more features there are. Not a number where a side does not vary.

    Of features that differ by a turn and a scale it is 1.

    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    >>> round(linear_cka(x, 3 * x[:, ::-1]).value, 6)
    1.0

    Source: Kornblith et al., Similarity of neural network representations revisited, 2019, eq. 4.
    """
    x, y = (_centred(side) for side in (first, second))
    scale = _kernel_norm(x) * _kernel_norm(y)
    if scale == 0:
        return Alignment(float("nan"), float("nan"))
    across = float(np.square(x.T @ y).sum())
    by_chance = float(np.square(x).sum()) * float(np.square(y).sum()) / (len(x) - 1)
    return Alignment(across / scale, by_chance / scale)


def neighbours(vectors: Float[np.ndarray, "n d"], num: int) -> Int64[np.ndarray, "n k"]:
    """Return the `num` other items with the largest cosine to each; of equal ones the first."""
    units = unit(vectors).astype(np.float64)
    nearest = np.empty((len(units), num), dtype=np.int64)
    for start in range(0, len(units), _BLOCK):
        # rounded: equal items must have equal cosines, whatever the product's order of sums
        cosines = np.round(units[start : start + _BLOCK] @ units.T, 12)
        cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = -np.inf
        nearest[start : start + _BLOCK] = np.argsort(-cosines, axis=1, kind="stable")[:, :num]
    return nearest


def shared_neighbours(
    first: Int64[np.ndarray, "n k"], second: Int64[np.ndarray, "n k"]
) -> Float64[np.ndarray, " n"]:
    """Return the percent of its k neighbours on one side that each item has on the other, too.

    By chance it is k / (n - 1).

    >>> shared_neighbours(np.array([[1, 2]]), np.array([[2, 3]]))
    array([50.])

    Source: mutual k-nearest neighbours of Huh et al., The Platonic
    representation hypothesis, 2024, appendix A. We differ: features are not clipped at their 95th
    percentile.
    """
    shared = (first[:, :, None] == second[:, None, :]).any(axis=2)
    percent: np.ndarray = 100.0 * shared.mean(axis=1)
    return percent


class RidgeMap:
    """Predict features of one side from the other by least squares with a penalty.

    W = argmin |Y - X W|^2 + a |W|^2 of centred X and Y; a is the one of some with the least
    generalised cross-validation error t |Y - H Y|^2 / (t - 1 - tr H)^2, where H Y are the
    predictions: no held-out item is looked at.

    Source: Hoerl and Kennard 1970; Golub, Heath and Wahba, Generalized cross-validation as a method
    for choosing a good ridge parameter, 1979. We differ: the mean that was subtracted counts as a
    parameter.

    Args:
        train: Features X that are predicted from.
        held_out: The same of items whose Y is to be predicted.
    """

    def __init__(self, train: Float[np.ndarray, "t d"], held_out: Float[np.ndarray, "h d"]) -> None:
        # in float64: the smallest penalty is 1e-4 of the mean eigenvalue
        mean = train.mean(axis=0, dtype=np.float64)
        centred = train - mean
        # one eigenbasis serves all penalties, and the features of every text encoder
        kernel = centred @ centred.T
        values, self._vectors = np.linalg.eigh(kernel)
        self._values = np.maximum(values, 0)
        assert self._values.any(), "features vary"
        self._across = (held_out - mean) @ centred.T @ self._vectors

    def predict(self, targets: Float[np.ndarray, "t e"]) -> Float64[np.ndarray, "h e"]:
        """Return the prediction of the held-out items, less the mean of `targets`."""
        centred = targets - targets.mean(axis=0, dtype=np.float64)
        inside = self._vectors.T @ centred
        energy = np.square(inside).sum(axis=1)
        best, least = 0.0, np.inf
        for penalty in _PENALTIES * self._values.mean():
            left = penalty / (self._values + penalty)
            # the constant direction is taken by the mean: it is neither left over nor free
            free = left.sum() - 1
            error = (left**2 * energy).sum() / free**2
            if error < least:
                best, least = penalty, error
        predicted: np.ndarray = self._across @ (inside / (self._values + best)[:, None])
        return predicted


def ranks_of_own(
    queries: Float[np.ndarray, "h e"], gallery: Float[np.ndarray, "h e"]
) -> Int64[np.ndarray, " h"]:
    """Return the rank by cosine of line i of the gallery for query i; ties count against it."""
    return label_ranks(unit(queries) @ unit(gallery).T, np.arange(len(queries)))


def _centred(values: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d"]:
    exact: np.ndarray = values - values.mean(axis=0, dtype=np.float64)
    return exact


def _kernel_norm(values: Float64[np.ndarray, "n d"]) -> float:
    """Return |X X^T| = |X^T X|, by the smaller of both."""
    small = values if values.shape[1] <= len(values) else values.T
    return float(np.linalg.norm(small.T @ small))
