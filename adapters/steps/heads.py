"""Map each token by several heads side by side, each of length one."""

import math

import torch
from torch import nn
from torch.nn import functional

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import Step, check_repeats
from .kernel_map import KernelMap


class Heads(Step):
    """Map each token by several heads side by side, each of length one.

    h_s = [u_1(x_s) ; ... ; u_K(x_s) ; sqrt(w K) u_0(x_s)], u(x) = f(x) / |f(x)|. What is trained is
    f_k(x) = W_k Dropout(x) + b_k, or V_k ReLU(W_k Dropout(x) + a_k) + b_k with `hidden` features,
    each with a dropout of its own. f_0(x) = W_0 x + b_0 is there with `solved` w > 0 only, is not
    trained, and is filled in closed form by what `[start]` names before the first step. With
    `anchors` f_0 is a `kernel-map`, for a `[start]` by `kernel-cca`. A cosine of two such rows is
    the mean over the trained heads and w times that of the solved one, over 1 + w.

    Heads of equal parts differ by their starts and dropouts alone, and their errors average out:
    an objective should contrast each on its own (`parts` of clip), as one loss of all together
    would let them share the work instead.

    Source: this project; ensembles of networks that differ by their start as in Lakshminarayanan
    et al. 2017, arXiv 1612.01474, section 2.4.

    Args:
        out: Features of one head.
        heads: Trained heads K.
        hidden: Features between the two matrices of a trained head, or 0 for one matrix.
        dropout: Probability that an input feature is set to zero in training, in [0, 1).
        solved: Weight of the head in closed form against all trained ones, or 0 for no such head.
        anchors: Of a solved head by a kernel, or 0 for a linear one.
        features: Directions in which that head compares, all where there are fewer; 0 for all.

    Raises:
        SpecError: A size is not positive, `dropout` or `solved` is out of range, or there are
            anchors and no solved head.
    """

    def __init__(
        self,
        width: int,
        *,
        out: int = 256,
        heads: int = 3,
        hidden: int = 0,
        dropout: float = 0.5,
        solved: float = 0.0,
        anchors: int = 0,
        features: int = 0,
    ) -> None:
        super().__init__(out * (heads + (solved > 0.0)))
        check_repeats("heads", heads)
        if min(out, heads) < 1 or hidden < 0:
            raise SpecError(
                f"out and heads must be positive and hidden at least 0, found {out}, {heads}, "
                f"{hidden}"
            )
        if not 0.0 <= dropout < 1.0:
            raise SpecError(f"dropout must be in [0, 1), found {dropout}")
        if solved < 0.0:
            raise SpecError(f"solved must be at least 0, found {solved}")
        if anchors < 0 or features < 0 or (anchors and not solved) or (features and not anchors):
            raise SpecError(
                "anchors are of a solved head, and features of one with anchors: found solved = "
                f"{solved}, anchors = {anchors}, features = {features}"
            )
        self.weight = solved
        # a Dropout for each head: one for all would take the difference between them away
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Dropout(dropout), *_matrices(width, hidden, out)) for _ in range(heads)
        )
        self.solved: nn.Linear | KernelMap | None = None
        if anchors:
            self.solved = KernelMap(width, out=out, anchors=anchors, features=min(features, width))
        elif solved > 0.0:
            self.solved = nn.Linear(width, out)
        if self.solved is not None:
            self.solved.requires_grad_(False)

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the heads of each token, one after the other."""
        outputs = [functional.normalize(head(tokens.values), dim=2) for head in self.heads]
        if self.solved is not None:
            by_kernel = isinstance(self.solved, KernelMap)
            values = self.solved(tokens, side).values if by_kernel else self.solved(tokens.values)
            solved = functional.normalize(values, dim=2)
            # a cosine weighs a part by the square of its length: K heads of 1 against w K
            outputs.append(math.sqrt(self.weight * len(outputs)) * solved)
        return tokens.with_values(torch.cat(outputs, dim=2))


def _matrices(width: int, hidden: int, out: int) -> list[nn.Module]:
    if not hidden:
        return [nn.Linear(width, out)]
    return [nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out)]
