"""Multi-head attention of tokens to tokens, its queries and keys from anywhere.

Axis names: `batch` rows, `tokens` those that ask, `keys` those that are asked, `width` features.
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from ..featcache.errors import SpecError


class Attention(nn.Module):
    """Let each token take from others what its query asks for, by several heads.

    a_i = W_o [head_1 ; ... ; head_H] + b_o, head_h = sum_j softmax_j(q_i k_j / sqrt(width / H)) v_j
    over real keys j, with q, k and v what belongs to head h of W_q x + b_q, W_k y + b_k and
    W_v y + b_v, x asking and y asked.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.2; dropout is on the probabilities, as
    in BERT.

    Args:
        width: Features of a token, also of what comes out.
        heads: Attention heads; a divisor of `width`.
        dropout: Probability that a key is not read by a query and head in training, in [0, 1).

    Raises:
        SpecError: `heads` does not divide `width`.
    """

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise SpecError(f"heads must divide the width {width}, found {heads}")
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        asking: Float[Tensor, "batch tokens width"],
        asked: Float[Tensor, "batch keys width"],
        mask: Bool[Tensor, "batch keys"],
    ) -> Float[Tensor, "batch tokens width"]:
        """Return what each token takes; keys outside `mask` may hold any finite number."""
        query, key, value = (
            self._split(layer(tokens))
            for layer, tokens in ((self.query, asking), (self.key, asked), (self.value, asked))
        )
        taken = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        joined: Tensor = self.out(taken.transpose(1, 2).flatten(2))
        return joined

    def _split(
        self, values: Float[Tensor, "batch n width"]
    ) -> Float[Tensor, "batch heads n width_of_head"]:
        batch, n, width = values.shape
        return values.reshape(batch, n, self.heads, width // self.heads).transpose(1, 2)
