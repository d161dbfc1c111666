"""Map each token by two matrices with a GELU between them."""

from torch import nn

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import Step


class Mlp(Step):
    """Map each token by two matrices with a GELU between them.

    h_s = LayerNorm(Dropout(W_2 GELU(W_1 x_s + b_1) + b_2)), without a residual.

    Source: lightweightCRL, commit e3421ad, text_image/*/model.py, the projection head with out =
    hidden = 256 and dropout 0.1; PEME, commit 550a968, model.py, both heads, with hidden = 1536,
    out = 512, and neither dropout nor norm. No difference.

    Args:
        out: Features of one output token.
        hidden: Features between the two matrices.
        dropout: Probability that an output feature is set to zero in training, in [0, 1).
        norm: Whether the result is normalised.

    Raises:
        SpecError: A size is not positive, or `dropout` is out of range.
    """

    def __init__(
        self, width: int, *, out: int, hidden: int, dropout: float = 0.1, norm: bool = True
    ) -> None:
        super().__init__(out)
        if min(out, hidden) < 1:
            raise SpecError(f"out and hidden must be positive, found {out} and {hidden}")
        if not 0.0 <= dropout < 1.0:
            raise SpecError(f"dropout must be in [0, 1), found {dropout}")
        # dropout before the norm, and no residual, as in the projection head of model.py
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, out),
            nn.Dropout(dropout),
            nn.LayerNorm(out) if norm else nn.Identity(),
        )

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the mapped tokens."""
        return tokens.with_values(self.layers(tokens.values))
