"""Normalise the features of each token to zero mean and unit variance."""

from torch import nn

from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import Step


class Norm(Step):
    """Normalise the features of each token to zero mean and unit variance.

    h_s = gamma * (x_s - mean(x_s)) / sqrt(var(x_s) + 1e-5) + beta, mean and variance over the
    features of one token.

    Source: Ba et al. 2016, arXiv 1607.06450, equation 4.

    Args:
        affine: Whether gamma and beta are learned; otherwise they are 1 and 0.
    """

    def __init__(self, width: int, *, affine: bool = True) -> None:
        super().__init__(width)
        self.norm = nn.LayerNorm(width, elementwise_affine=affine)

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the normalised tokens."""
        return tokens.with_values(self.norm(tokens.values))
