"""Average the tokens of each row with learned weights."""

import torch
from torch import nn

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..masking import one_token, without_padding
from ..step import Step

INITIAL_SPREAD = 0.02  # small: starts as the mean, and just far enough apart to tell queries apart


class AttentionPool(Step):
    """Average the tokens of each row with learned weights.

    h = 1/Q sum_q sum_s alpha_qs x_s, alpha_q = softmax_s(u_q . x_s / sqrt(width)) over the real
    tokens, u_q learned. The queries start as N(0, 0.02^2), so that h starts close to the mean.

    Source: Yang et al. 2016, Hierarchical Attention Networks, NAACL, equations 5 to 7. We
    differ: no hidden layer before the score, and several queries, which are averaged.

    Args:
        queries: Number of learned queries Q.

    Raises:
        SpecError: `queries` is not positive.
    """

    mixes = True

    def __init__(self, width: int, *, queries: int = 1) -> None:
        super().__init__(width)
        if queries < 1:
            raise SpecError(f"queries must be positive, found {queries}")
        self.queries = nn.Parameter(INITIAL_SPREAD * torch.randn(queries, width))

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return one token a row."""
        values = without_padding(tokens)
        scores = torch.einsum("btw,qw->bqt", values, self.queries) / self.out_width**0.5
        weights = scores.masked_fill(~tokens.mask[:, None, :], float("-inf")).softmax(dim=2)
        # the mean over queries first: one sum over the tokens instead of Q
        return one_token(torch.einsum("bt,btw->bw", weights.mean(dim=1), values))
