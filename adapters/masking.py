"""Tokens of a row without what fills it up, and a vector as one token.

Axis names: `batch` rows, `tokens` positions after padding, `width` features of one token.
"""

import torch
from jaxtyping import Float
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


def one_token(values: Float[Tensor, "batch width"]) -> Tokens:
    """Return one vector a row as tokens, all of them real."""
    mask = torch.ones(values.shape[0], 1, dtype=torch.bool, device=values.device)
    return Tokens(values[:, None, :], mask)
