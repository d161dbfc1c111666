"""Compare images and texts by the pairs that each is similar to."""

import numpy as np
from jaxtyping import Float, Float64

from ..solver import AnchorSolver


class Asif(AnchorSolver):
    """Compare images and texts by the pairs that each is similar to.

    Some training pairs are anchors: an image is described by its cosines to their images, a text by
    its cosines to their texts, and both descriptions have one feature a pair. The slot must be a
    `relative` step, which keeps the largest cosines and takes their power.

    Source: ASIF, Norelli et al. 2022, arXiv 2210.01738.
    """

    def anchors(
        self, first: Float[np.ndarray, "n first"], second: Float[np.ndarray, "n second"]
    ) -> tuple[Float64[np.ndarray, "n first"], Float64[np.ndarray, "n second"]]:
        """Return the features of both sides, each of length 1; features of zeros stay."""
        return _unit(first), _unit(second)


def _unit(values: Float[np.ndarray, "n width"]) -> Float64[np.ndarray, "n width"]:
    exact = values.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    units: np.ndarray = exact / np.where(lengths > 0, lengths, 1.0)
    return units
