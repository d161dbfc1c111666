"""Predict one modality from the other by least squares."""

import numpy as np

from ...featcache.errors import SpecError
from ...featcache.registry import unknown_name
from ..preset import PLACES
from ..solver import LinearMap, LinearSolver, Moments

TARGETS = ("image", "text")


class Ridge(LinearSolver):
    """Predict one modality from the other by least squares.

    W = argmin sum |y - W x|^2 + alpha |W|^2 over centred pairs; the target is only centred.

    Source: Hoerl and Kennard 1970; as a map between frozen encoders, Merullo et al. 2023, arXiv
    2209.15162.

    Args:
        alpha: Weight of the penalty; at least 0.
        target: `text` predicts texts from images, `image` the other way round; between two text
            encoders `text` is the second side and `image` the first. `first` and `second` are
            those of any two sides.

    Raises:
        SpecError: `alpha` is negative.
        UnknownNameError: There is no such target.
    """

    def __init__(self, *, alpha: float = 1.0, target: str = "text") -> None:
        if alpha < 0:
            raise SpecError(f"alpha is at least 0, found {alpha}")
        if target not in {*TARGETS, *PLACES}:
            raise unknown_name("target", target, TARGETS)
        self.alpha = alpha
        self.target = PLACES.get(target, target)

    def solve(self, moments: Moments, out: int) -> tuple[LinearMap, LinearMap]:
        """Return the prediction, and the identity for its target; `out` is the target's width."""
        first, across, second = moments.scatters
        first_mean, second_mean = moments.means
        if self.target == "image":
            first, across, first_mean, second_mean = second, across.T, second_mean, first_mean
        width = across.shape[1]
        if out != width:
            raise SpecError(f"ridge gives the {width} features of its target, asked for {out}")
        weight = np.linalg.solve(first + self.alpha * np.eye(len(first)), across).T
        maps = (
            LinearMap.centred(weight, first_mean),
            LinearMap.centred(np.eye(width), second_mean),
        )
        return maps if self.target == "text" else (maps[1], maps[0])
