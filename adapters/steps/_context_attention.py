"""Frame of the fusions in which the context of a side attends to the tokens of a row."""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..context import Context
from ..masking import without_padding
from ..step import Step


class ContextAttention(Step):
    """Add to every token what the context of its side reads of the row.

    h_s = x_s + sum_s alpha_s x_s, alpha the softmax of `scores` over the tokens of the row; `read`
    may map the sum.

    Source: lightweightCRL, commit e3421ad, text_image/*/fusion.py. We differ: padding takes no part
    in the softmax.

    Args:
        context: Features of the learnable vector of a side.
        hidden: Hidden sizes of the context's MLP.
        masked: Whether padding is left out; false as published.

    Attributes:
        matrices: Names of the square matrices that a fusion has, in the order of their start.

    Raises:
        SpecError: A size is not positive.
    """

    mixes = True
    matrices: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        width: int,
        *,
        context: int = 3,
        hidden: tuple[int, ...] = (64, 128),
        masked: bool = True,
    ) -> None:
        super().__init__(width)
        self.masked = masked
        self.context = Context(context, hidden=hidden, width=width)
        for name in self.matrices:
            self.add_module(name, nn.Linear(width, width))

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the fused tokens."""
        # fusion.py passes no mask: there the softmax runs over whatever fills a row up
        values = without_padding(tokens) if self.masked else tokens.values
        scores = self.scores(values, self.context(side))
        if self.masked:
            scores = scores.masked_fill(~tokens.mask, float("-inf"))
        average = torch.einsum("bt,btw->bw", scores.softmax(dim=1), values)
        return tokens.with_values(values + self.read(average)[:, None, :])

    @abstractmethod
    def scores(
        self, values: Float[Tensor, "batch tokens width"], context: Float[Tensor, " width"]
    ) -> Float[Tensor, "batch tokens"]:
        """Return the logits of the tokens of each row."""

    def read(self, average: Float[Tensor, "batch width"]) -> Float[Tensor, "batch width"]:
        """Return what is added to the tokens of a row, given their weighted average."""
        return average
