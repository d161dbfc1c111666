"""Tokens of both sides that are read jointly, from the adapter's input to its result.

Axis names: `batch` rows, of which one is an item of each side; `tokens` positions of a side after
padding, `boxes` slots of a row for boxes, `width` features of one token.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..featcache.tokens import Tokens
from ..featcache.types import Side
from .masking import without_padding


@dataclass(frozen=True)
class Boxes:
    """Boxes of the rows of a side; each becomes a token behind those of its row.

    Attributes:
        coverage: Weight of each token in each box, at least 0, such as the share of a patch that
            lies in the box; 0 for tokens that are no patches, such as CLS. A box that covers
            nothing is an empty slot.
        mask: True where there is a box; what stands in empty slots is not looked at.
        types: Token type of each box, or None for 2 + i of slot i.
    """

    coverage: Float[Tensor, "batch boxes tokens"]
    mask: Bool[Tensor, "batch boxes"]
    types: Int64[Tensor, "batch boxes"] | None = None

    def to(self, device: torch.device) -> "Boxes":
        """Return the same on `device`."""
        types = None if self.types is None else self.types.to(device)
        return Boxes(self.coverage.to(device), self.mask.to(device), types)

    def tokens_of(self, tokens: Tokens) -> Tokens:
        """Return one token a slot: the mean of the tokens that its box covers, by coverage.

        b_i = sum_s c_is h_s / sum_s c_is over real tokens s, and zeros for an empty slot.

        Worked by hand: tokens (0, 0), (2, 4) and (6, 8), coverage (0, 1, 0.5): the sum of the
        weights is 1.5, and the box is ((2 + 3) / 1.5, (4 + 4) / 1.5) = (3.33, 5.33).
        """
        values = without_padding(tokens)
        is_read = tokens.mask[:, None, :] & self.mask[:, :, None]
        weights = torch.where(is_read, self.coverage, 0.0).to(values.dtype)
        total = weights.sum(dim=2, keepdim=True)  # batch boxes 1
        is_there = total > 0
        # divided by one where there is nothing to divide: 0 / 0 has a gradient of NaN
        means = weights @ values / torch.where(is_there, total, 1.0)
        return Tokens(means, is_there[:, :, 0])


def blinded(tokens: Tokens) -> Tokens:
    """Return one token of zeros for each row: what there is of a side that is not looked at."""
    rows = len(tokens)
    values = tokens.values.new_zeros(rows, 1, tokens.width)
    return Tokens(values, tokens.mask.new_ones(rows, 1))


@dataclass(frozen=True)
class JointTokens:
    """Tokens of both sides between two steps of a joint adapter.

    Attributes:
        tokens: Those of each side; row i of both sides is read jointly.
        types: Token type of each token, at least 0, by side.
        pooled: One vector a row, behind a step that pools; None before it.
    """

    tokens: Mapping[Side, Tokens]
    types: Mapping[Side, Int64[Tensor, "batch tokens"]]
    pooled: Float[Tensor, "batch pooled_width"] | None = None


@dataclass(frozen=True)
class Joint:
    """Rows of both sides, read jointly.

    Attributes:
        tokens: Fused tokens of each side, those of boxes behind the others.
        pooled: One vector a row.
    """

    tokens: Mapping[Side, Tokens]
    pooled: Float[Tensor, "batch pooled_width"]
