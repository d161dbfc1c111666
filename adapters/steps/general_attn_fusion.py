"""Let the context attend to the tokens through one matrix."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ._context_attention import ContextAttention


class GeneralAttnFusion(ContextAttention):
    """Let the context attend to the tokens through one matrix.

    h_s = x_s + a, a = sum_s alpha_s x_s, alpha = softmax_s(c_m . (W x_s + b)), without scaling.
    c_m . b is the same for all tokens of a row and cancels in the softmax: b gets no gradient.

    Source: LightCRL DFE-5 after Luong et al. 2015, arXiv 1508.04025, equation 8; lightweightCRL,
    commit e3421ad, text_image/*/fusion.py. We differ: padding takes no part in the softmax.
    """

    matrices = ("key",)
    key: nn.Linear

    def scores(
        self, values: Float[Tensor, "batch tokens width"], context: Float[Tensor, " width"]
    ) -> Float[Tensor, "batch tokens"]:
        """Return c . (W x_s)."""
        # c . (W x) = (c W) . x: one product a row instead of one a token. The bias is left out
        # because it cancels; it is a parameter only because the published model has it.
        return torch.einsum("btw,w->bt", values, context @ self.key.weight)
