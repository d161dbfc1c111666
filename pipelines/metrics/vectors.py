"""Vectors as rows of an array."""

import numpy as np
from jaxtyping import Float


def unit(vectors: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "n width"]:
    """Return the vectors with length 1; one of zeros stays.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: np.ndarray = vectors / np.where(lengths > 0, lengths, 1)
    return units
