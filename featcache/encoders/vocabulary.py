"""Tokens that an encoder knows, as far as masking some of a text needs them. NumPy only."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Tokens that may stand in place of those of a text.

    Attributes:
        mask_id: Id of the token that stands for a hidden one.
        ordinary_ids: Ids of all tokens that stand for a part of a text and that the model has
            features for, ascending; no special token is among them, nor that of unknown words.
        num_fixed: First of the stored tokens of every item that are no part of its text, but of a
            prompt before it.
    """

    mask_id: int
    ordinary_ids: Int64[np.ndarray, " words"]
    num_fixed: int = 0
