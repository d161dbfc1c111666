"""Weigh the cosine of canonical directions by how much they correlate."""

from dataclasses import replace

import numpy as np

from ...featcache.errors import SpecError
from ..solver import LinearMap, LinearSolver, Moments
from ._canonical import canonical


class Csa(LinearSolver):
    """Weigh the cosine of canonical directions by how much they correlate.

    score = sum_i rho_i a_i b_i / (|a| |b|), with a and b the canonical variates of image and text
    and rho their correlations. The slot must be a `weighted-unit`, which keeps the lengths apart
    from the weights; the images have the weights, the texts ones.

    Source: Li et al. 2025, arXiv 2410.07610.

    Args:
        regularisation: Ridge in units of the mean variance; at least 0.

    Raises:
        SpecError: `regularisation` is negative.
    """

    weighs = True

    def __init__(self, *, regularisation: float = 1e-3) -> None:
        if regularisation < 0:
            raise SpecError(f"regularisation is at least 0, found {regularisation}")
        self.regularisation = regularisation

    def solve(self, moments: Moments, out: int) -> tuple[LinearMap, LinearMap]:
        """Return the maps to the `out` most correlated directions, and their weights."""
        solution = canonical(moments, out, regularisation=self.regularisation, name="csa")
        first, second = moments.means
        # a correlation of 1 may come out a little larger
        weights = np.minimum(solution.correlations, 1.0)
        return (
            replace(LinearMap.centred(solution.first, first), weights=weights),
            replace(LinearMap.centred(solution.second, second), weights=np.ones(out)),
        )
