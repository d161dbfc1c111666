"""Map each token by one matrix."""

from torch import nn

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..building import start_normal
from ..step import Step


class Linear(Step):
    """Map each token by one matrix.

    h_s = W x_s + b.

    Source: the projection of CLIP, Radford et al. 2021, arXiv 2103.00020, figure 3, which has no
    bias.

    Args:
        out: Features of one output token.
        bias: Whether b is there.
        spread: Standard deviation of a normal start of W, with b at zero; 0 for PyTorch's start.

    Raises:
        SpecError: `out` is not positive, or `spread` is negative.
    """

    def __init__(self, width: int, *, out: int, bias: bool = True, spread: float = 0.0) -> None:
        super().__init__(out)
        if out < 1:
            raise SpecError(f"out must be positive, found {out}")
        if spread < 0:
            raise SpecError(f"spread must be at least 0, found {spread}")
        self.linear = nn.Linear(width, out, bias=bias)
        if spread:
            start_normal(self.linear, spread)

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the mapped tokens."""
        return tokens.with_values(self.linear(tokens.values))
