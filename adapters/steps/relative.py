"""Describe each token by how similar it is to anchors."""

import torch
from torch import Tensor
from torch.nn import functional

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import Step


class Relative(Step):
    """Describe each token by how similar it is to anchors.

    r_a = (max(0, c_a) / max_b c_b)^power for the `top` anchors a of largest cosine c_a = cos(x, a),
    0 for all others; a token without any anchor of positive cosine gets zeros. The largest one is
    divided by only because high powers of small cosines vanish in float32: an embedding is divided
    by its length anyway. The anchors are not trained; a training-free method sets them.

    Source: ASIF, Norelli et al. 2022, arXiv 2210.01738, section 2 (k = 800, p = 8, of 1.6 million
    anchors). We differ in negative cosines, which an even power would make similar.

    Args:
        anchors: Number of anchors, and of features of one output token: four bytes each.
        top: How many of them a token keeps; all where there are fewer.
        power: Exponent of the cosines; positive.

    Raises:
        SpecError: An option is not positive.
    """

    anchors: Tensor

    def __init__(self, width: int, *, anchors: int, top: int = 800, power: float = 8.0) -> None:
        super().__init__(anchors)
        if min(anchors, top) < 1 or power <= 0:
            raise SpecError(
                f"anchors, top and power must be positive, found {anchors}, {top} and {power}"
            )
        self.top = min(top, anchors)
        self.power = power
        self.register_buffer("anchors", functional.normalize(torch.randn(anchors, width), dim=1))

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return one feature an anchor for each token; padding stays padding."""
        values = tokens.values
        # float32 even under autocast: 8 bits of mantissa would reorder the anchors
        with torch.autocast(values.device.type, enabled=False):
            units = functional.normalize(values.to(self.anchors.dtype), dim=2)
            cosines = functional.linear(units, self.anchors)  # batch tokens anchors
            largest, places = cosines.topk(self.top, dim=2)
            smallest = torch.finfo(largest.dtype).tiny
            similarities = (
                largest.clamp(min=0) / largest[:, :, :1].clamp(min=smallest)
            ) ** self.power
            return tokens.with_values(torch.zeros_like(cosines).scatter(2, places, similarities))
