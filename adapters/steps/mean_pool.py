"""Average the tokens of each row."""

from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..masking import one_token, without_padding
from ..step import Step


class MeanPool(Step):
    """Average the tokens of each row.

    h = sum_s m_s x_s / sum_s m_s, m_s = 1 where token s is real and 0 where it is padding.

    Source: LightCRL, lightweightCRL, commit e3421ad, text_image/*/model.py. We differ: the
    published mean runs over padding too (`masked = false`), so that an embedding depends on the
    longest row of its batch; and padding there holds what BERT gives for it, here zeros.

    Args:
        masked: Whether padding is left out; false as published.
    """

    mixes = True

    def __init__(self, width: int, *, masked: bool = True) -> None:
        super().__init__(width)
        self.masked = masked
        self.fixed = masked

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return one token a row."""
        if not self.masked:
            return one_token(tokens.values.mean(dim=1))
        lengths = tokens.mask.sum(dim=1, keepdim=True)  # batch 1
        return one_token(without_padding(tokens).sum(dim=1) / lengths)
