"""Leave both sides as they are."""

import numpy as np

from ...featcache.errors import SpecError
from ..solver import LinearMap, LinearSolver, Moments


class AsIs(LinearSolver):
    """Leave both sides as they are: the two encoders share a space already, as CLIP's towers do.

    What is then measured is the encoders' own baseline, from the cache. Nothing is read from the
    pairs.

    Source: zero-shot evaluation of Radford et al. 2021, arXiv 2103.00020.
    """

    def solve(self, moments: Moments, out: int) -> tuple[LinearMap, LinearMap]:
        """Return the identity twice; `out` is the width of both sides."""
        first, second = (len(mean) for mean in moments.means)
        if not first == second == out:
            raise SpecError(
                f"as-is needs as many features on both sides as it gives: found {first} and "
                f"{second}, asked for {out}; take features 'pooled' of a pair such as clip-vit-b16 "
                "and clip-text-b16, and set towers.both.project.out to their width"
            )
        same = LinearMap(np.eye(out), np.zeros(out))
        return same, same
