"""Project both modalities onto the directions in which they correlate most."""

from ...featcache.errors import SpecError
from ...featcache.registry import unknown_name
from ..solver import LinearMap, LinearSolver, Moments
from ._canonical import canonical

CAPTIONS = ("each", "average")


class Cca(LinearSolver):
    """Project both modalities onto the directions in which they correlate most.

    Each direction is multiplied by its canonical correlation to some power, so that what correlates
    little counts little: 0 for plain CCA.

    Source: Hotelling 1936. CSA weighs the products, and divides by unweighted lengths; here the
    lengths are weighted, too.

    Args:
        regularisation: Ridge in units of the mean variance; at least 0.
        power: Exponent of the canonical correlations.
        captions: Whether an image makes a pair with `each` of its texts or one with their
            `average`.

    Raises:
        SpecError: `regularisation` or `power` is negative.
        UnknownNameError: There are no such `captions`.
    """

    def __init__(
        self, *, regularisation: float = 1e-3, power: float = 0.5, captions: str = "each"
    ) -> None:
        if regularisation < 0 or power < 0:
            raise SpecError(
                f"regularisation and power are at least 0, found {regularisation} and {power}"
            )
        if captions not in CAPTIONS:
            raise unknown_name("captions", captions, CAPTIONS)
        self.averages = captions == "average"
        self.regularisation = regularisation
        self.power = power

    def solve(self, moments: Moments, out: int) -> tuple[LinearMap, LinearMap]:
        """Return the maps to the `out` most correlated directions."""
        solution = canonical(moments, out, regularisation=self.regularisation, name="cca")
        weights = solution.correlations[:, None] ** self.power
        first, second = moments.means
        return (
            LinearMap.centred(weights * solution.first, first),
            LinearMap.centred(weights * solution.second, second),
        )
