"""Sums and softmaxes over the tokens of a row that leave padding out.

Axis names: `batch` rows, `tokens` positions after padding, `width` features of one token.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..featcache.tokens import Tokens


def without_padding(tokens: Tokens) -> Float[Tensor, "batch tokens width"]:
    """Return the values with zero at every masked position.

    A weight of zero is not enough to silence a masked position: 0 * NaN is NaN. Without padding,
    as for every batch of images, nothing is copied.
    """
    # a graph that is being exported serves padded rows and others: it cannot look
    if not torch.compiler.is_compiling() and bool(tokens.mask.all()):
        return tokens.values
    return torch.where(tokens.mask[:, :, None], tokens.values, 0.0)


def attend(
    scores: Float[Tensor, "batch tokens"],
    values: Float[Tensor, "batch tokens width"],
    mask: Bool[Tensor, "batch tokens"] | None,
) -> Float[Tensor, "batch width"]:
    """Return sum_s alpha_s values_s of each row, alpha the softmax of its scores over its tokens.

    Where `mask` is False a token takes no part; without a mask padding does take part.
    """
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.einsum("bt,btw->bw", scores.softmax(dim=1), values)


def one_token(values: Float[Tensor, "batch width"]) -> Tokens:
    """Return one vector a row as tokens, all of them real."""
    mask = torch.ones(values.shape[0], 1, dtype=torch.bool, device=values.device)
    return Tokens(values[:, None, :], mask)
