"""Rotate one modality onto the other."""

import numpy as np

from ...featcache.errors import SpecError
from ..solver import LinearMap, LinearSolver, Moments


class Procrustes(LinearSolver):
    """Rotate one modality onto the other.

    X^T Y = U S V^T of centred pairs; images go through U^T and texts through V^T, of the `out`
    largest S. With as many features on both sides and `out` of them, that is, up to a rotation of
    both, the orthogonal R = U V^T which minimises |X R - Y|.

    Source: Schönemann 1966; as a map between frozen encoders, Maiorca et al. 2023, arXiv
    2311.00664.
    """

    def solve(self, moments: Moments, out: int) -> tuple[LinearMap, LinearMap]:
        """Return both rotations."""
        _, across, _ = moments.scatters
        if out > min(across.shape):
            raise SpecError(
                f"procrustes gives {min(across.shape)} features at most, asked for {out}"
            )
        left, _, right = np.linalg.svd(across, full_matrices=False)
        means = moments.means
        return (
            LinearMap.centred(left.T[:out], means[0]),
            LinearMap.centred(right[:out], means[1]),
        )
