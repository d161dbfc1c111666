"""Add the context of the side to every token."""

from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..context import Context, DirectContext
from ..step import Step


class AddFusion(Step):
    """Add the context of the side to every token.

    h_s = x_s + c_m.

    After a per-modality step that ends in a bias (a LayerNorm, say) the context is redundant: it
    only re-parameterises that bias.

    Source: LightCRL DFE-1; lightweightCRL, commit e3421ad, text_image/*/fusion.py; with `direct`,
    OneEncoder, commit 60b2b62. No difference.

    Args:
        context: Features of the learnable vector of a side.
        hidden: Hidden sizes of the context's MLP.
        direct: Whether the learnable vector itself is the context, as wide as a token.

    Raises:
        SpecError: A size is not positive.
    """

    def __init__(
        self,
        width: int,
        *,
        context: int = 3,
        hidden: tuple[int, ...] = (64, 128),
        direct: bool = False,
    ) -> None:
        super().__init__(width)
        # OneEncoder's first release has a bare vector, LightCRL's fusion.py an MLP over one
        self.context: Context | DirectContext = (
            DirectContext(width) if direct else Context(context, hidden=hidden, width=width)
        )

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the fused tokens."""
        return tokens.with_values(tokens.values + self.context(side))
