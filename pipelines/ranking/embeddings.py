"""The contract of an evaluation: embeddings and their relations in, plain numbers out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

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
    anchors: Int64[np.ndarray, " some"] | None = None

    @property
    def same_texts(self) -> bool:
        """Return whether row i of both sides is the same text."""
        return self.sides == TEXT_TEXT


class Task(ABC):
    """Measure one thing; options are keyword-only arguments of the constructor.

    Attributes:
        definitions: What each number means, by its key in the result.
    """

    definitions: ClassVar[dict[str, str]]

    @abstractmethod
    def run(self, embeddings: PairedEmbeddings) -> dict[str, Any]:
        """Return the measured numbers as JSON values."""
