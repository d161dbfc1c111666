"""Map each token by the product of two matrices and project it."""

import math

from torch import nn
from torch.nn import functional

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import Step


class StarMlp(Step):
    """Map each token by the product of two matrices and project it.

    h_s = W_3 (ReLU6(W_1 x_s + b_1) * (W_2 x_s + b_2)) + b_3, the product feature by feature, both
    factors kept within [-limit, limit].

    Source: the star operation of Ma et al. 2024, arXiv 2403.19967, section 3, as SAIL (Zhang et
    al. 2025, arXiv 2412.04616; SAIL, model/linear.py) uses it, eight times as wide as its input,
    with limit 1000 and matrices that start as Xavier's; a LayerNorm stands before it there.

    Args:
        out: Features of one output token.
        expansion: Features of the product over `width`.
        xavier: Whether matrices start as Xavier's, uniform, and b as zero; else as PyTorch's.
        limit: Largest factor; infinity for no limit.

    Raises:
        SpecError: A size or the limit is not positive.
    """

    def __init__(
        self,
        width: int,
        *,
        out: int,
        expansion: int = 8,
        xavier: bool = False,
        limit: float = math.inf,
    ) -> None:
        super().__init__(out)
        if min(out, expansion) < 1:
            raise SpecError(f"out and expansion must be positive, found {out} and {expansion}")
        if not limit > 0:
            raise SpecError(f"limit must be positive, found {limit}")
        self.limit = limit
        self.first = nn.Linear(width, expansion * width)
        self.second = nn.Linear(width, expansion * width)
        self.project = nn.Linear(expansion * width, out)
        # of a square matrix PyTorch's own start is narrower by the root of 3
        if xavier:
            for linear in (self.first, self.second, self.project):
                nn.init.xavier_uniform_(linear.weight)
                nn.init.zeros_(linear.bias)

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the mapped tokens."""
        factors = [matrix(tokens.values) for matrix in (self.first, self.second)]
        if self.limit < math.inf:
            factors = [factor.clamp(-self.limit, self.limit) for factor in factors]
        return tokens.with_values(self.project(functional.relu6(factors[0]) * factors[1]))
