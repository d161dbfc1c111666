"""Let the context attend to the tokens through one matrix."""

import torch
from torch import nn

from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..context import Context
from ..masking import attend, without_padding
from ..step import Step


class GeneralAttnFusion(Step):
    """Let the context attend to the tokens through one matrix.

    h_s = x_s + a, a = sum_s alpha_s x_s, alpha = softmax_s(c_m . (W x_s + b)), without scaling.
    c_m . b is the same for all tokens of a row and cancels in the softmax: b gets no gradient.

    Source: LightCRL DFE-5 after Luong et al. 2015, arXiv 1508.04025, equation 8; lightweightCRL,
    commit e3421ad, text_image/*/fusion.py. We differ: padding takes no part in the softmax.

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
        self.key = nn.Linear(width, width)

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the fused tokens."""
        # fusion.py passes no mask: there the softmax runs over whatever fills a row up
        values = without_padding(tokens) if self.masked else tokens.values
        # c . (W x) = (c W) . x: one product a row instead of one a token. The bias is left out
        # because it cancels; it is a parameter only because the published model has it.
        query = self.context(side) @ self.key.weight
        scores = torch.einsum("btw,w->bt", values, query)
        average = attend(scores, values, tokens.mask if self.masked else None)
        return tokens.with_values(values + average[:, None, :])
