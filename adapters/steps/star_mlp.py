"""Map each token by the product of two matrices and project it."""

from torch import nn
from torch.nn import functional

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import Step


class StarMlp(Step):
    """Map each token by the product of two matrices and project it.

    h_s = W_3 (ReLU6(W_1 x_s + b_1) * (W_2 x_s + b_2)) + b_3, the product feature by feature.

    Source: the star operation of Ma et al. 2024, arXiv 2403.19967, section 3, as SAIL (Zhang et
    al. 2025, arXiv 2412.04616) uses it, eight times as wide as its input.

    Args:
        width: Features of one token.
        out: Features of one output token.
        expansion: Features of the product over `width`.

    Raises:
        SpecError: A size is not positive.
    """

    def __init__(self, width: int, *, out: int, expansion: int = 8) -> None:
        super().__init__()
        if min(out, expansion) < 1:
            raise SpecError(f"out and expansion must be positive, found {out} and {expansion}")
        self.out_width = out
        self.first = nn.Linear(width, expansion * width)
        self.second = nn.Linear(width, expansion * width)
        self.project = nn.Linear(expansion * width, out)

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the mapped tokens."""
        values = tokens.values
        product = functional.relu6(self.first(values)) * self.second(values)
        return tokens.with_values(self.project(product))
