"""Take the first token of each row."""

from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..masking import one_token, without_padding
from ..step import Step


class ClsPool(Step):
    """Take the first token of each row.

    h = x_1: the CLS token of encoders that have one.

    Source: PEME, commit 550a968, model.py, the text half. No difference.
    """

    fixed = True

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return one token a row."""
        return one_token(without_padding(tokens)[:, 0])
