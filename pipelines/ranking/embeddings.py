"""Embeddings of both sides of a split, and which of them belong together."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from ...featcache.types import IMAGE_TEXT, TEXT_TEXT, Sides
from ..metrics.ranks import Relevance


@dataclass(frozen=True)
class PairedEmbeddings:
    """Unit-length embeddings of both sides of one split, and the pairs that belong together.

    Between two text encoders the texts of the first side stand in the place of the images; both
    sides hold the same texts in the same order, and a text is no right answer to itself.

    Attributes:
        images: Embedding of each image.
        texts: Embedding of each text.
        image_ids: Id of each image.
        text_ids: Id of each text.
        texts_of_image: Right text rows of each image; every image has at least one, but a text of
            the first side may have none.
        images_of_text: Right image rows of each text, in the same way.
        sides: What both sides are.
        anchors: Rows of the first side that a loss is of, each with all its right answers, or None
            for all.
    """

    images: Float32[np.ndarray, "images embed"]
    texts: Float32[np.ndarray, "texts embed"]
    image_ids: tuple[str, ...]
    text_ids: tuple[str, ...]
    texts_of_image: Relevance
    images_of_text: Relevance
    sides: Sides = IMAGE_TEXT
    anchors: Int64[np.ndarray, " anchors"] | None = None

    @property
    def same_texts(self) -> bool:
        """Return whether row i of both sides is the same text."""
        return self.sides == TEXT_TEXT
