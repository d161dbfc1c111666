"""Pool a row to the mean of the tokens of each side."""

import torch

from ...featcache.types import Sides
from ..joint_step import JointStep
from ..joint_tokens import JointTokens
from ..steps import mean_pool


class MeanPool(JointStep):
    """Pool a row to the mean of the tokens of each side.

    p = [mean_s t_s ; mean_s v_s], t being the second side (texts) and v the first (images): twice
    the width of a token.

    Source: OneEncoder, commit 91edf3d, the nine scripts of visual question answering. We differ:
    the published mean runs over padding, too (`masked = false`).

    Args:
        masked: Whether padding is left out; false as published.
    """

    def __init__(self, width: int, sides: Sides, *, masked: bool = True) -> None:
        super().__init__(width, sides)
        self.pooled_width = 2 * width
        self.pool = mean_pool.MeanPool(width, masked=masked)

    def forward(self, rows: JointTokens) -> JointTokens:
        """Return the rows with the vector of each."""
        pooled = [self.pool(rows.tokens[side], side).values[:, 0] for side in reversed(self.sides)]
        return JointTokens(rows.tokens, rows.types, torch.cat(pooled, dim=1))
