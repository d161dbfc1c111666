"""Embeddings of both sides of a split, and which of them belong together."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from ...featcache.types import IMAGE_TEXT, Sides
from ..metrics.ranks import Relevance


@dataclass(frozen=True)
class PairedEmbeddings:
    """Unit-length embeddings of both sides of one split, and the pairs that belong together.

    Between two encoders of one modality, such as texts, both sides hold the same items in the same
    order, and an item is no right answer to itself.

    Attributes:
        first: Embedding of each item of the first side, such as an image.
        second: Embedding of each item of the second side, such as a text.
        first_ids: Id of each row of `first`.
        second_ids: Id of each row of `second`.
        seconds_of_first: Right rows of `second` for each of `first`; each has at least one, but
            between two text encoders a text may have none.
        firsts_of_second: Right rows of `first` for each of `second`, in the same way.
        sides: What both sides are.
        anchors: Rows of the first side that a loss is of, each with all its right answers, or None
            for all.
    """

    first: Float32[np.ndarray, "first embed"]
    second: Float32[np.ndarray, "second embed"]
    first_ids: tuple[str, ...]
    second_ids: tuple[str, ...]
    seconds_of_first: Relevance
    firsts_of_second: Relevance
    sides: Sides = IMAGE_TEXT
    anchors: Int64[np.ndarray, " anchors"] | None = None

    @property
    def same_items(self) -> bool:
        """Return whether row i of both sides is the same item, by two encoders."""
        first, second = self.sides
        return first.modality is second.modality
