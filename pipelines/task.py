"""The contract of an evaluation: embeddings and their relations in, plain numbers out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from .metrics import Relevance


@dataclass(frozen=True)
class PairedEmbeddings:
    """Hold the unit-length embeddings of one split and which of them belong together.

    Attributes:
        images: Embedding of each image.
        texts: Embedding of each text.
        image_ids: Id of each image.
        text_ids: Id of each text.
        texts_of_image: Right text rows of each image; every image has at least one.
        images_of_text: Right image rows of each text; every text has at least one.
    """

    images: Float32[np.ndarray, "images embed"]
    texts: Float32[np.ndarray, "texts embed"]
    image_ids: tuple[str, ...]
    text_ids: tuple[str, ...]
    texts_of_image: Relevance
    images_of_text: Relevance


class Task(ABC):
    """Measure one thing; options are keyword-only arguments of the constructor.

    Attributes:
        definitions: What each number means, by its key in the result.
    """

    definitions: ClassVar[dict[str, str]]

    @abstractmethod
    def run(self, embeddings: PairedEmbeddings) -> dict[str, Any]:
        """Return the measured numbers as JSON values."""
