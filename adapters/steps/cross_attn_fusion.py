"""Let the context attend to the tokens by a scaled dot product."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ._context_attention import ContextAttention


class CrossAttnFusion(ContextAttention):
    """Let the context attend to the tokens by a scaled dot product.

    h_s = x_s + a, a = sum_s alpha_s (W_v x_s + b_v), alpha = softmax_s(q . k_s / sqrt(width)),
    q = W_q c_m + b_q, k_s = W_k x_s + b_k; one head. q . b_k is the same for all tokens of a row
    and cancels in the softmax: b_k gets no gradient.

    Source: LightCRL DFE-6 after Vaswani et al. 2017, arXiv 1706.03762, equation 1;
    lightweightCRL, commit e3421ad, text_image/*/fusion.py. We differ: padding takes no part in
    the softmax.
    """

    matrices = ("query", "key", "value")
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear

    def scores(
        self, values: Float[Tensor, "batch tokens width"], context: Float[Tensor, " width"]
    ) -> Float[Tensor, "batch tokens"]:
        """Return q . (W_k x_s) / sqrt(width)."""
        # q . (W x) = (q W) . x: one product a row instead of one a token. b_k is left out because
        # it cancels; it is a parameter only because the published model has it.
        query = self.query(context) @ self.key.weight
        scores: Tensor = torch.einsum("btw,w->bt", values, query) / self.out_width**0.5
        return scores

    def read(self, average: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        """Return W_v times the average, plus b_v."""
        # the weights sum to 1: sum_s alpha_s (W x_s + b) is W (sum_s alpha_s x_s) + b
        attended: Tensor = self.value(average)
        return attended
