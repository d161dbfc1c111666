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
    """Queue of the embeddings of the last rows of both sides, such as images and texts.

    They are as they came out of the adapter of that step, and nothing flows back through them. What
    belongs to an item of the batch is not its negative, however old it is.

    Source: Wang et al. 2020, arXiv 1912.06798 (cross-batch memory), section 3.2. We differ: what
    belongs together is left out, not a positive, and the queue is in use from the second batch on.
    MoCo (He et al. 2020, arXiv 1911.05722) has the queue filled by a moving average of the weights.

    Args:
        size: Most rows of each side in the queue.
        seconds_of: Rows of the second side that belong to each of the first.
        width: Features of an embedding.
        device: Where embeddings are.
    """

    def __init__(
        self,
        size: int,
        seconds_of: Mapping[int, Sequence[int]],
        *,
        width: int,
        device: torch.device,
    ) -> None:
        self.size = size
        self._seconds_of = seconds_of
        self._firsts_of: dict[int, list[int]] = defaultdict(list)
        for first, seconds in seconds_of.items():
            for second in seconds:
                self._firsts_of[second].append(first)
        self._rows = BatchRows(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        self._first = self._second = torch.zeros(0, width, device=device)

    def recall(self, rows: BatchRows) -> QueuedNegatives | None:
        """Return the queue, and which of it is a negative of which of these rows."""
        if not len(self._rows.first):
            return None
        return QueuedNegatives(
            first=self._first,
            second=self._second,
            first_to_second=_strangers(rows.first, self._rows.second, self._firsts_of),
            second_to_first=_strangers(rows.second, self._rows.first, self._seconds_of),
        ).to(self._first.device)

    def add(self, rows: BatchRows, pairs: PairBatch) -> None:
        """Append the embeddings of these rows, and drop the oldest beyond the size."""
        # a batch larger than the queue leaves a random part of itself, not its longest rows
        firsts, seconds = _drawn_order(rows.first), _drawn_order(rows.second)
        self._first = self._last(self._first, pairs.first[firsts])
        self._second = self._last(self._second, pairs.second[seconds])
        self._rows = BatchRows(
            np.concatenate([self._rows.first, rows.first[firsts]])[-self.size :],
            np.concatenate([self._rows.second, rows.second[seconds]])[-self.size :],
        )

    def _last(
        self, old: Float[Tensor, "old embed"], new: Float[Tensor, "new embed"]
    ) -> Float[Tensor, "last embed"]:
        # under autocast embeddings of one training may come in two types
        return torch.cat([old, new.detach().to(old.dtype)])[-self.size :]

    def state(self) -> dict[str, Tensor]:
        """Return the queue with the rows of its embeddings."""
        return {
            # so called in the first checkpoints, whatever the sides are
            "image": self._first,
            "text": self._second,
            "image_rows": torch.from_numpy(self._rows.first),
            "text_rows": torch.from_numpy(self._rows.second),
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: It is of embeddings of another width, or its parts do not belong together.
        """
        for side, queued in (("image", self._first), ("text", self._second)):
            if state[side].shape != (len(state[f"{side}_rows"]), queued.shape[1]):
                raise ValueError(f"{side}s of the queue have shape {list(state[side].shape)}")
        self._first = state["image"].to(self._first.device)
        self._second = state["text"].to(self._second.device)
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
    """Return True where row i and old row j, of the other side, do not belong together."""
    # with captions = 'each' a first row comes once for each of its partners
    lines_of: dict[int, list[int]] = defaultdict(list)
    for line, row in enumerate(rows.tolist()):
        lines_of[row].append(line)
    strangers = np.ones((len(rows), len(old)), dtype=bool)
    for column, row in enumerate(old.tolist()):
        for partner in partners_of[row]:
            if partner in lines_of:
                strangers[lines_of[partner], column] = False
    return torch.from_numpy(strangers)
