"""The contract of one step of a joint adapter, which sees the tokens of both sides."""

from abc import ABC, abstractmethod

from torch import nn

from ..featcache.types import Sides
from .joint_tokens import JointTokens


class JointStep(nn.Module, ABC):
    """Map the tokens of both sides to tokens of both sides.

    What a side does alone, before it meets the other, is a tower of `Step`s. A subclass takes
    `width` (features of one input token of either side) and `sides` first and its own options
    keyword-only, with types and defaults in the signature: a preset table names `part` and any of
    them.

    Args:
        width: Features of one output token of either side, which a subclass hands up.
        sides: The two sides, in the order that counts.

    Attributes:
        out_width: Features of one output token.
        pooled_width: Features of the vector that it pools a row to; 0 where it pools none.
        num_types: Token types that it tells apart; 0 where it does not look at them.
    """

    pooled_width: int = 0
    num_types: int = 0

    def __init__(self, width: int, sides: Sides) -> None:
        super().__init__()
        self.out_width = width
        self.sides = sides

    @abstractmethod
    def forward(self, rows: JointTokens) -> JointTokens:
        """Return the rows behind the step.

        A row's result never depends on the other rows of the batch nor on padding and empty box
        slots, except where an option that repeats a published system says so (`masked = false`).
        """
