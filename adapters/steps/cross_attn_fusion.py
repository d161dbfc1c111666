"""Let the context attend to the tokens by a scaled dot product."""

import torch
from torch import nn

from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..context import Context
from ..masking import attend, without_padding
from ..step import Step


class CrossAttnFusion(Step):
    """Let the context attend to the tokens by a scaled dot product.

    h_s = x_s + a, a = sum_s alpha_s (W_v x_s + b_v), alpha = softmax_s(q . k_s / sqrt(width)),
    q = W_q c_m + b_q, k_s = W_k x_s + b_k; one head. q . b_k is the same for all tokens of a row
    and cancels in the softmax: b_k gets no gradient.

    Source: LightCRL DFE-6 after Vaswani et al. 2017, arXiv 1706.03762, equation 1;
    lightweightCRL, commit e3421ad, text_image/*/fusion.py. We differ: padding takes no part in
    the softmax.

    Args:
        context: Features of the learnable vector of a side.
        hidden: Hidden sizes of the context's MLP.
        masked: Whether padding is left out; false as published.

    Raises:
        SpecError: A size is not positive.
    """

    mixes = True

    def __init__(
        self,
        width: int,
        *,
        context: int = 3,
        hidden: tuple[int, ...] = (64, 128),
        masked: bool = True,
    ) -> None:
        super().__init__(width)
        self.masked = masked
        self.context = Context(context, hidden=hidden, width=width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the fused tokens."""
        # fusion.py passes no mask: there the softmax runs over whatever fills a row up
        values = without_padding(tokens) if self.masked else tokens.values
        # q . (W x) = (q W) . x, and the weights sum to 1, so that sum_s alpha_s (W x_s + b) is
        # W (sum_s alpha_s x_s) + b: two products a row instead of two a token. b_k is left out
        # because it cancels; it is a parameter only because the published model has it.
        query = self.query(self.context(side)) @ self.key.weight
        scores = torch.einsum("btw,w->bt", values, query) / self.out_width**0.5
        average = attend(scores, values, tokens.mask if self.masked else None)
        return tokens.with_values(values + self.value(average)[:, None, :])
