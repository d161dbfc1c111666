"""Keep the tokens as they are."""

from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import Step


class Identity(Step):
    """Keep the tokens as they are.

    h_s = x_s. Holds a slot open for presets that extend this one, and is the control of every
    experiment on that slot.

    Source: none; a convenience of this project.
    """

    fixed = True

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return `tokens`."""
        return tokens
