"""Map each token, and weigh the features of its direction."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import Step

_ROUNDING = 1e-5  # of a squared length in float32; its root would be noise


class WeightedUnit(Step):
    """Map each token by one matrix, and weigh the features of its direction.

    u = (W x + b) / |W x + b|, v = w u with weights w in [0, 1], and the output is
    (v, sqrt(1 - |v|^2), 0) on the first side, such as that of images, and (v, 0, sqrt(1 - |v|^2))
    on the second, such as that of texts. It has unit length, so that the cosine of an image and a
    text is the sum of w_image u_image w_text u_text: lengths are those before the weights. The
    weights are not trained; a training-free method sets them.

    Source: the weighted cosine of CSA, Li et al. 2025, arXiv 2410.07610.

    Args:
        out: Rows of W; two more features are given.

    Raises:
        SpecError: `out` is not positive.
    """

    weights: Tensor

    def __init__(self, width: int, *, out: int) -> None:
        super().__init__(out + 2)
        if out < 1:
            raise SpecError(f"out must be positive, found {out}")
        self.linear = nn.Linear(width, out)
        self.register_buffer("weights", torch.ones(out))

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the weighted directions, each with what its length lacks to 1."""
        weighted = functional.normalize(self.linear(tokens.values), dim=2) * self.weights
        squares = 1 - weighted.square().sum(dim=2, keepdim=True)
        lacking = torch.where(squares > _ROUNDING, squares.clamp(min=0).sqrt(), 0.0)
        nothing = torch.zeros_like(lacking)
        # each side in a feature of its own, where the other has 0: it adds nothing to the cosine
        last = (lacking, nothing) if side is self.sides[0] else (nothing, lacking)
        return tokens.with_values(torch.cat([weighted, *last], dim=2))
