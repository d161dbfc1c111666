"""Set random features to zero while training."""

import torch
from torch import nn

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import Step


class Dropout(Step):
    """Set random features to zero while training.

    h_sf = x_sf * b_sf / (1 - p) with b_sf ~ Bernoulli(1 - p), drawn for every feature f of every
    token s; the identity in evaluation mode. In front of a tower it plays the part of the
    augmentation that cached features cannot have. With `whole_rows` one b_f serves all tokens of
    a row: a later mean over tokens would average independent draws away, and drawing a number
    for each of some hundred thousand features is the slowest thing that a light tower does.

    Source: Srivastava et al. 2014, JMLR 15, section 4, with the scaling moved to training;
    `whole_rows` as in Tompson et al. 2015, arXiv 1411.4280, section 3.2.

    Args:
        p: Probability that a feature is set to zero, in [0, 1).
        whole_rows: Whether a feature is set to zero in all tokens of a row together.

    Raises:
        SpecError: `p` is out of range.
    """

    def __init__(self, width: int, *, p: float = 0.1, whole_rows: bool = False) -> None:
        super().__init__(width)
        if not 0.0 <= p < 1.0:
            raise SpecError(f"dropout p must be in [0, 1), found {p}")
        self.whole_rows = whole_rows
        self.dropout = nn.Dropout(p)

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the tokens with features dropped, in training mode only."""
        values = tokens.values
        # of one token both are the same draws, without the product of ones
        if not (self.whole_rows and self.training) or values.shape[1] == 1:
            return tokens.with_values(self.dropout(values))
        # the module's own scaling by 1 / (1 - p) on ones gives the factors of a whole row
        factors = self.dropout(torch.ones_like(values[:, :1]))  # [batch, 1, width]
        return tokens.with_values(values * factors)
