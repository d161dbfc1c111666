"""Let the context attend to the tokens by an additive score."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ._context_attention import ContextAttention


class AdditiveAttnFusion(ContextAttention):
    """Let the context attend to the tokens by an additive score.

    h_s = x_s + a, a = sum_s alpha_s x_s, alpha = softmax_s(w . tanh(U c_m + V x_s) + b). The bias
    b is the same for all tokens of a row, cancels in the softmax and gets no gradient.

    Without the tanh, w . U c_m is the same for all tokens too: the context cancels, U, the bias
    of V and the whole context get no gradient, and the published text-image variant therefore has
    no context at all.

    Source: LightCRL DFE-4 after Bahdanau et al. 2015, arXiv 1409.0473, section A.1.2;
    lightweightCRL, commit e3421ad, text_image/*/fusion.py (no tanh) and text_text/*/fusion.py
    (tanh). We differ: tanh by default, and padding takes no part in the softmax.

    Args:
        context: Features of the learnable vector of a side.
        hidden: Hidden sizes of the context's MLP.
        tanh: Whether the tanh is there; as published false for text-image, true for text-text.
        masked: Whether padding is left out; false as published.
    """

    matrices = ("query", "key")
    query: nn.Linear
    key: nn.Linear

    def __init__(
        self,
        width: int,
        *,
        context: int = 3,
        hidden: tuple[int, ...] = (64, 128),
        tanh: bool = True,
        masked: bool = True,
    ) -> None:
        super().__init__(width, context=context, hidden=hidden, masked=masked)
        self.tanh = tanh
        self.score = nn.Linear(width, 1)

    def scores(
        self, values: Float[Tensor, "batch tokens width"], context: Float[Tensor, " width"]
    ) -> Float[Tensor, "batch tokens"]:
        """Return w . tanh(U c + V x_s) + b."""
        mixed = self.query(context) + self.key(values)
        scores: Tensor = self.score(torch.tanh(mixed) if self.tanh else mixed)
        return scores[:, :, 0]
