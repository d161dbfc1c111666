"""Rows of a step that are mixed with others; needs no torch."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True)
class MixupRows:
    """Name what the rows of a step are mixed with.

    Attributes:
        first: Partner of each row of the first side, by row number.
        second: Partner of each row of the second side, by row number.
        owner: Which first row each second one belongs to, by its place in the step.
        share: How much of a mixture is of the row itself; of its partner is the rest.
    """

    first: Int64[np.ndarray, " n"]
    second: Int64[np.ndarray, " m"]
    owner: Int64[np.ndarray, " m"]
    share: float
