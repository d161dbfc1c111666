"""Multiply every token by the context of the side, feature by feature."""

from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..context import Context
from ..step import Step


class MulFusion(Step):
    """Multiply every token by the context of the side, feature by feature.

    h_s = x_s * c_m, elementwise and without a residual.

    After a per-modality LayerNorm the context is redundant: it only rescales gamma and beta.

    Source: LightCRL DFE-2; lightweightCRL, commit e3421ad, text_image/*/fusion.py. No difference.

    Args:
        context: Features of the learnable vector of a side.
        hidden: Hidden sizes of the context's MLP.

    Raises:
        SpecError: A size is not positive.
    """

    def __init__(
        self, width: int, *, context: int = 3, hidden: tuple[int, ...] = (64, 128)
    ) -> None:
        super().__init__(width)
        self.context = Context(context, hidden=hidden, width=width)

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the fused tokens."""
        return tokens.with_values(tokens.values * self.context(side))
