"""Map each token by its kernel values at anchors."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import Step


class KernelMap(Step):
    """Map each token by its kernel values at anchors.

    h_s = W k(x_s) + b, k_a(x) = |x| |a| (sin t + (pi - t) cos t) / pi at anchor a, t the angle
    between x and a: the arc-cosine kernel of order 1, that of infinitely many random ReLU features.
    The anchors are not trained; a training-free method sets them, and leaves those that it has no
    items for at zero, where the kernel is zero, too.

    Source: Cho and Saul 2009, Kernel Methods for Deep Learning, equations 3 and 6. No difference.

    Args:
        out: Features of one output token.
        anchors: Number of anchors at most: `width` + `out` numbers each.

    Raises:
        SpecError: A size is not positive.
    """

    anchors: Tensor

    def __init__(self, width: int, *, out: int, anchors: int) -> None:
        super().__init__(out)
        if min(out, anchors) < 1:
            raise SpecError(f"out and anchors must be positive, found {out} and {anchors}")
        self.register_buffer("anchors", torch.randn(anchors, width))
        self.linear = nn.Linear(anchors, out)

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the mapped tokens."""
        values = tokens.values
        # float32 even under autocast: a map of thousands of kernel values cancels most of them
        with torch.autocast(values.device.type, enabled=False):
            kernel = arc_cosine(values.to(self.anchors.dtype), self.anchors)
            return tokens.with_values(self.linear(kernel))


def arc_cosine(
    values: Float[Tensor, "*rows width"], anchors: Float[Tensor, "anchors width"]
) -> Float[Tensor, "*rows anchors"]:
    """Return the arc-cosine kernel of order 1 of each row with each anchor.

    By hand: 1 / pi of two orthogonal units, 1 of a unit with itself, 0 of opposite ones.
    """
    # short of the ends, where the slopes of both terms are infinite and only their sum is not
    most = 1 - torch.finfo(values.dtype).eps
    cosines = functional.linear(
        functional.normalize(values, dim=-1), functional.normalize(anchors, dim=-1)
    ).clamp(-most, most)
    angular = (1 - cosines.square()).sqrt() + (math.pi - cosines.acos()) * cosines
    lengths = values.norm(dim=-1, keepdim=True) * anchors.norm(dim=-1)
    kernel: Tensor = lengths * angular / math.pi
    return kernel
