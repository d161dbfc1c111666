"""Map each token by one matrix."""

from torch import nn

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import Step


class Linear(Step):
    """Map each token by one matrix.

    h_s = W x_s + b.

    Source: the projection of CLIP, Radford et al. 2021, arXiv 2103.00020, figure 3, which has no
    bias.

    Args:
        out: Features of one output token.
        bias: Whether b is there.

    Raises:
        SpecError: `out` is not positive.
    """

    def __init__(self, width: int, *, out: int, bias: bool = True) -> None:
        super().__init__(out)
        if out < 1:
            raise SpecError(f"out must be positive, found {out}")
        self.linear = nn.Linear(width, out, bias=bias)

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the mapped tokens."""
        return tokens.with_values(self.linear(tokens.values))
