"""Sizes of what a training step reads: tokens, widths and rows of each side."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...featcache.types import Side, Sides, sides_of
from ..inputs.pooled_shape import PooledShape


@dataclass(frozen=True, kw_only=True)
class InputShape:
    """Shape of one row of each side, as a step reads it.

    Between two text encoders the texts of the first side stand in the place of the images.

    Attributes:
        tokens: Tokens of an image and of a text.
        widths: Features of one of their tokens.
        texts: Texts of an image in its batch.
        feature_bytes: Bytes of one feature as it is loaded.
        ready: Batches or chunks that are in this memory at once: the one that is used, and where
            features stay on the CPU one that waits and one that is being loaded.
        pooled: What is left of a row of a side whose rows are pooled once; a step reads that.
    """

    tokens: Mapping[Side, int]
    widths: Mapping[Side, int]
    texts: int
    feature_bytes: int = 2
    ready: int = 3
    pooled: Mapping[Side, PooledShape] = field(default_factory=dict)

    @property
    def sides(self) -> Sides:
        """Return the two sides in their order."""
        return sides_of([side.value for side in self.tokens])

    def row_bytes(self, side: Side) -> int:
        """Return the bytes of one row as it comes into a step."""
        if side in self.pooled:
            return self.pooled[side].width * 4
        return self.tokens[side] * self.widths[side] * self.feature_bytes

    def rows(self, side: Side, images: int) -> int:
        """Return how many rows of a side so many images bring."""
        return images if side is self.sides[0] else images * self.texts
