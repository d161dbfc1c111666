"""Embeddings of earlier batches as further negatives."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ...adapters.objective import PairBatch, QueuedNegatives
from ..inputs.pairs import BatchRows


class NegativeQueue:
    """Queue of the embeddings of the last images and of the last texts.

    They are as they came out of the adapter of that step, and nothing flows back through them. What
    belongs to an item of the batch is not its negative, however old it is.

    Source: Wang et al. 2020, arXiv 1912.06798 (cross-batch memory), section 3.2. We differ: what
    belongs together is left out, not a positive, and the queue is in use from the second batch on.
    MoCo (He et al. 2020, arXiv 1911.05722) has the queue filled by a moving average of the weights.

    Args:
        size: Most images, and most texts, in the queue.
        texts_of: Texts that belong to each image, by row numbers; between two text encoders those
            of the second side for each of the first.
        width: Features of an embedding.
        device: Where embeddings are.
    """

    def __init__(
        self,
        size: int,
        texts_of: Mapping[int, Sequence[int]],
        *,
        width: int,
        device: torch.device,
    ) -> None:
        self.size = size
        self._texts_of = texts_of
        self._images_of: dict[int, list[int]] = defaultdict(list)
        for image, texts in texts_of.items():
            for text in texts:
                self._images_of[text].append(image)
        self._rows = BatchRows(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        self._image = self._text = torch.zeros(0, width, device=device)

    def recall(self, rows: BatchRows) -> QueuedNegatives | None:
        """Return the queue, and which of it is a negative of which of these rows."""
        if not len(self._rows.image):
            return None
        return QueuedNegatives(
            image=self._image,
            text=self._text,
            image_to_text=_strangers(rows.image, self._rows.text, self._images_of),
            text_to_image=_strangers(rows.text, self._rows.image, self._texts_of),
        ).to(self._image.device)

    def add(self, rows: BatchRows, pairs: PairBatch) -> None:
        """Append the embeddings of these rows, and drop the oldest beyond the size."""
        # a batch larger than the queue leaves a random part of itself, not its longest rows
        images, texts = _drawn_order(rows.image), _drawn_order(rows.text)
        self._image = self._last(self._image, pairs.image[images])
        self._text = self._last(self._text, pairs.text[texts])
        self._rows = BatchRows(
            np.concatenate([self._rows.image, rows.image[images]])[-self.size :],
            np.concatenate([self._rows.text, rows.text[texts]])[-self.size :],
        )

    def _last(
        self, old: Float[Tensor, "old embed"], new: Float[Tensor, "new embed"]
    ) -> Float[Tensor, "last embed"]:
        # under autocast embeddings of one training may come in two types
        return torch.cat([old, new.detach().to(old.dtype)])[-self.size :]

    def state(self) -> dict[str, Tensor]:
        """Return the queue with the rows of its embeddings."""
        return {
            "image": self._image,
            "text": self._text,
            "image_rows": torch.from_numpy(self._rows.image),
            "text_rows": torch.from_numpy(self._rows.text),
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: It is of embeddings of another width, or its parts do not belong together.
        """
        for side, queued in (("image", self._image), ("text", self._text)):
            if state[side].shape != (len(state[f"{side}_rows"]), queued.shape[1]):
                raise ValueError(f"{side}s of the queue have shape {list(state[side].shape)}")
        self._image = state["image"].to(self._image.device)
        self._text = state["text"].to(self._text.device)
        self._rows = BatchRows(state["image_rows"].numpy(), state["text_rows"].numpy())


def _drawn_order(rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return a random order that depends on which rows these are, not on how they come.

    Chunks and processes order a batch in their own ways, and what is forgotten of it must be the
    same; and it must not be the same rows of a store each time.
    """
    drawn = np.random.default_rng(np.sort(rows)).permutation(len(rows))
    return np.argsort(rows)[drawn]


def _strangers(
    rows: Int64[np.ndarray, " n"],
    old: Int64[np.ndarray, " m"],
    partners_of: Mapping[int, Sequence[int]],
) -> Bool[Tensor, "n m"]:
    """Return True where row i and old row j, of the other modality, do not belong together."""
    # with captions = 'each' an image has a row for each of its captions
    lines_of: dict[int, list[int]] = defaultdict(list)
    for line, row in enumerate(rows.tolist()):
        lines_of[row].append(line)
    strangers = np.ones((len(rows), len(old)), dtype=bool)
    for column, row in enumerate(old.tolist()):
        for partner in partners_of[row]:
            if partner in lines_of:
                strangers[lines_of[partner], column] = False
    return torch.from_numpy(strangers)
