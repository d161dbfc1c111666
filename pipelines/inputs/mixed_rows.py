"""Rows of a step that are mixed with others; needs no torch."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True)
class MixupRows:
    """Name what the rows of a step are mixed with.

    Attributes:
        image: Partner of each image, by row number.
        text: Partner of each text, by row number.
        owner: Which image each text belongs to, by its place in the step.
        share: How much of a mixture is of the row itself; of its partner is the rest.
    """

    image: Int64[np.ndarray, " n"]
    text: Int64[np.ndarray, " m"]
    owner: Int64[np.ndarray, " m"]
    share: float
