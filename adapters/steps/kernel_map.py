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
    items for at zero, where the kernel is zero, too. With `features` F both are compared along the
    F principal directions of the anchors, not centred.

    Source: Cho and Saul 2009, Kernel Methods for Deep Learning, equations 3 and 6. No difference
    without `features`, which are this project's: they make anchors of wide tokens smaller.

    Args:
        out: Features of one output token.
        anchors: Number of anchors at most: `width` + `out` numbers each.
        features: Directions F in which tokens are compared with anchors, or 0 for all features.

    Raises:
        SpecError: A size is not positive, or there are more directions than features.
    """

    anchors: Tensor
    directions: Tensor | None

    def __init__(self, width: int, *, out: int, anchors: int, features: int = 0) -> None:
        super().__init__(out)
        if min(out, anchors) < 1:
            raise SpecError(f"out and anchors must be positive, found {out} and {anchors}")
        if not 0 <= features <= width:
            raise SpecError(f"features must be from 0 to the width {width}, found {features}")
        self.register_buffer("anchors", torch.randn(anchors, features or width))
        self.register_buffer("directions", torch.randn(features, width) if features else None)
        self.linear = nn.Linear(anchors, out)

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the mapped tokens."""
        values = tokens.values
        # float32 even under autocast: a map of thousands of kernel values cancels most of them
        with torch.autocast(values.device.type, enabled=False):
            kernel = arc_cosine(self.turned(values.to(self.anchors.dtype)), self.anchors)
            return tokens.with_values(self.linear(kernel))

    @torch.no_grad()
    def set_anchors(self, items: Float[Tensor, "n width"]) -> None:
        """Take items as the anchors, with the directions that they differ most in."""
        if self.directions is not None:
            directions = _principal(items.double(), len(self.directions))
            self.directions.zero_()[: len(directions)].copy_(directions)
        self.anchors.zero_()[: len(items)].copy_(self.turned(items.to(self.anchors)))

    def turned(self, values: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows features"]:
        """Return the features of tokens that are compared with anchors."""
        if self.directions is None:
            return values
        turned: Tensor = functional.linear(values, self.directions.to(values.dtype))
        return turned


def _principal(items: Float[Tensor, "n width"], most: int) -> Float[Tensor, "directions width"]:
    """Return the directions of the largest sums of squares, at most as many as there are any of."""
    if items.shape[0] >= items.shape[1]:
        vectors: Tensor = torch.linalg.eigh(items.T @ items).eigenvectors
        return vectors.flip(1)[:, :most].T
    # of fewer items than features: those of their products, brought back to length one
    squares, shares = torch.linalg.eigh(items @ items.T)
    largest = squares.flip(0)[:most]
    there = largest > largest[0] * len(items) * torch.finfo(items.dtype).eps
    scaled: Tensor = shares.flip(1)[:, :most][:, there] / largest[there].sqrt()
    return scaled.T @ items


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
