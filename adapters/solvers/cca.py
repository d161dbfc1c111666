"""Project both modalities onto the directions in which they correlate most."""

import numpy as np
from jaxtyping import Float64

from ...featcache.errors import SpecError
from ..solver import LinearMap, Moments, Solver


class Cca(Solver):
    """Project both modalities onto the directions in which they correlate most.

    With C_xx = X^T X / (n - 1) + r tr(X^T X / (n - 1)) / d I, C_yy alike and C_xy = X^T Y / (n - 1)
    of centred X and Y: C_xx^(-1/2) C_xy C_yy^(-1/2) = U S V^T, and the maps are U^T C_xx^(-1/2) and
    V^T C_yy^(-1/2), of the `out` largest S, the canonical correlations. Each direction is
    multiplied by S^power, so that what correlates little counts little: 0 for plain CCA.

    Source: Hotelling 1936; regularised as in Vinod 1976. With frozen encoders, CSA (Li et al. 2025,
    arXiv 2410.07610), which weighs the products by S and divides by unweighted lengths; here, with
    `power` = 0.5, the lengths are weighted, too.

    Args:
        regularisation: r, the ridge in units of the mean variance; at least 0.
        power: Exponent of the canonical correlations.

    Raises:
        SpecError: `regularisation` or `power` is negative.
    """

    def __init__(self, *, regularisation: float = 1e-3, power: float = 0.5) -> None:
        if regularisation < 0 or power < 0:
            raise SpecError(
                f"regularisation and power are at least 0, found {regularisation} and {power}"
            )
        self.regularisation = regularisation
        self.power = power

    def solve(self, moments: Moments, out: int) -> tuple[LinearMap, LinearMap]:
        """Return the maps to the `out` most correlated directions."""
        first, across, second = (one / (moments.count - 1) for one in moments.scatters)
        if out > min(across.shape):
            raise SpecError(f"cca has {min(across.shape)} directions at most, asked for {out}")
        whitenings = [self._whitening(one) for one in (first, second)]
        left, correlations, right = np.linalg.svd(whitenings[0] @ across @ whitenings[1])
        weights = correlations[:out, None] ** self.power
        means = moments.means
        return (
            LinearMap.centred(weights * (left.T[:out] @ whitenings[0]), means[0]),
            LinearMap.centred(weights * (right[:out] @ whitenings[1]), means[1]),
        )

    def _whitening(
        self, covariance: Float64[np.ndarray, "features features"]
    ) -> Float64[np.ndarray, "features features"]:
        """Return the inverse root; directions without any variance get 0."""
        ridge = self.regularisation * np.trace(covariance) / len(covariance)
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values, 0) + ridge
        smallest = values.max() * len(values) * np.finfo(np.float64).eps
        scale = np.where(values > smallest, 1 / np.sqrt(np.maximum(values, smallest)), 0.0)
        whitening: np.ndarray = (vectors * scale) @ vectors.T
        return whitening
