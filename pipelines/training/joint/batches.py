"""Batches of pairs that are read together: right ones, and wrong ones of the same items."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ....featcache.tokens import Tokens
from ...inputs.pairs import PairDataset
from ..batches import Batches
from ..distributed import ALONE, ProcessGroup
from ..options import TrainOptions
from .answers import AnswerLabels
from .negatives import NONE, DualSimilarity, draw_partners

_BLOCK = 4096  # pairs; the mask of all of them with one another takes 16 MB


@dataclass(frozen=True)
class JointRows:
    """Rows of the pairs of a batch.

    Attributes:
        first: Row of the first side of each pair that belongs together.
        second: Row of the second side of each.
        wrong: Places in `first` and in `second` of pairs that do not belong together.
    """

    first: Int64[np.ndarray, " n"]
    second: Int64[np.ndarray, " n"]
    wrong: Int64[np.ndarray, "wrong 2"]

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Targets:
    """What an objective has to tell of a batch.

    Attributes:
        pairs: Number of the pair that each unit is of, in order; of units of several pairs, the
            first of them.
        labels: By name, an entry a unit.
        positions: Position of each unit among the tokens of its row, or None where units are rows.
    """

    pairs: Int64[np.ndarray, " units"]
    labels: Mapping[str, Tensor]
    positions: Int64[np.ndarray, " units"] | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def within(self, start: int, stop: int) -> "Targets":
        """Return those of the pairs from `start` to before `stop`, counted from `start`."""
        low, high = np.searchsorted(self.pairs, [start, stop]).tolist()
        return Targets(
            self.pairs[low:high] - start,
            {name: entries[low:high] for name, entries in self.labels.items()},
            None if self.positions is None else self.positions[low:high],
        )


def targets_of_pairs(
    num_pairs: int, num_right: int, answers: Mapping[str, Tensor]
) -> dict[str, Targets]:
    """Return what objectives have to tell of pairs, by the name of each.

    Args:
        num_pairs: Pairs, of which the right ones come first.
        num_right: Pairs that belong together.
        answers: Labels of the answers to these, an entry each; empty without answers.
    """
    matches = torch.arange(num_pairs) < num_right
    targets = {"itm": Targets(np.arange(num_pairs), {"matches": matches})}
    if answers:
        targets["answers"] = Targets(np.arange(num_right), answers)
    return targets


@dataclass(frozen=True)
class PairsLoaded:
    """Features of a batch of pairs, or of a process's share of it, on the CPU.

    The pairs that belong together come first.

    Attributes:
        rows: Rows of the whole batch.
        first: Tokens of distinct rows of the first side.
        second: Those of the second side.
        pairs: Places in `first` and `second` of each pair of the share.
        right: Places in `rows` of those of these that belong together.
        targets: What each objective has to tell, by its name.
    """

    rows: JointRows
    first: Tokens
    second: Tokens
    pairs: Int64[np.ndarray, "pairs 2"]
    right: Int64[np.ndarray, " right"]
    targets: Mapping[str, Targets]

    @property
    def num_right(self) -> int:
        """Return how many pairs belong together."""
        return len(self.right)


class Negatives:
    """Draw wrong partners for the pairs of a batch from the batch.

    Args:
        stores: Say what belongs together.
        similarity: How alike items are by a dual run, or None.
        hard: Share of wrong partners that are drawn by it, in [0, 1].
    """

    def __init__(
        self, stores: PairDataset, similarity: DualSimilarity | None, *, hard: float
    ) -> None:
        self.stores = stores
        self.similarity = similarity
        self.hard = hard if similarity is not None else 0.0

    def draw(
        self,
        first: Int64[np.ndarray, " n"],
        second: Int64[np.ndarray, " n"],
        random: np.random.Generator,
    ) -> Int64[np.ndarray, "wrong 2"]:
        """Return the places of wrong pairs: a second item for each first one, and the reverse.

        Of very many pairs, partners are of the same block of `_BLOCK` pairs.
        """
        blocks = [
            self._draw_within(
                first, second, np.arange(start, min(start + _BLOCK, len(first))), random
            )
            for start in range(0, len(first), _BLOCK)
        ]
        return np.concatenate([np.empty((0, 2), dtype=np.int64), *blocks])

    def _draw_within(
        self,
        first: Int64[np.ndarray, " n"],
        second: Int64[np.ndarray, " n"],
        block: Int64[np.ndarray, " block"],
        random: np.random.Generator,
    ) -> Int64[np.ndarray, "wrong 2"]:
        rows = first[block], second[block]
        positives = self.stores.positives(*rows)[:].numpy()
        logits = None if self.similarity is None else self.similarity.logits(*rows)
        seconds = draw_partners(positives, logits, hard=self.hard, random=random)
        firsts = draw_partners(
            positives.T, None if logits is None else logits.T, hard=self.hard, random=random
        )
        places = np.arange(len(block))
        wrong = np.concatenate(
            [np.stack([places, seconds], axis=1), np.stack([firsts, places], axis=1)]
        )
        kept: np.ndarray = block[wrong[(wrong != NONE).all(axis=1)]]
        return kept


class JointBatches:
    """Draw and load the batches of a training on pairs that are read together.

    A row of an epoch is a pair: a question and its image, say. An image, or a text of two images,
    may be in a batch several times.

    Args:
        stores: Where the features are.
        images: Numbers of the images to train on.
        options: How large batches are; `captions` must be `each`.
        seed: Seed of the order and of wrong partners.
        negatives: Draws wrong partners, or None for none.
        labels: Targets of the answers to questions, or None.
        processes: Who shares the pairs of each batch.
    """

    def __init__(
        self,
        stores: PairDataset,
        images: Int64[np.ndarray, " n"],
        *,
        options: TrainOptions,
        seed: int,
        negatives: Negatives | None,
        labels: AnswerLabels | None,
        processes: ProcessGroup = ALONE,
    ) -> None:
        self.stores = stores
        self.seed = seed
        self.negatives = negatives
        self.labels = labels
        self.processes = processes
        self._pairs = Batches(stores, images, options=options, seed=seed, processes=processes)
        self.course = replace(self._pairs.course, counted="pairs")

    def order(self, epoch: int) -> Iterator[JointRows]:
        """Yield the rows of each batch; they depend on seed, epoch and residency alone."""
        random = np.random.default_rng([self.seed, epoch, 1])
        for rows in self._pairs.order(epoch):
            wrong = np.empty((0, 2), dtype=np.int64)
            if self.negatives is not None:
                wrong = self.negatives.draw(rows.first, rows.second, random)
            yield JointRows(rows.first, rows.second, wrong)

    def load(self, rows: JointRows) -> PairsLoaded:
        """Return the batch of these rows, or this process's share of it."""
        rank = self.processes.rank
        right = self.processes.shares(len(rows))[rank]
        wrong = rows.wrong[self.processes.shares(len(rows.wrong))[rank]]
        return load_pairs(self.stores, rows, right, wrong, labels=self.labels)


def load_pairs(
    stores: PairDataset,
    rows: JointRows,
    right: Int64[np.ndarray, " right"],
    wrong: Int64[np.ndarray, "wrong 2"],
    *,
    labels: AnswerLabels | None,
) -> PairsLoaded:
    """Return the features of some right and some wrong pairs of `rows`, each item once.

    Right pairs are in the order of the length of their second item, so that chunks of them have
    little padding.
    """
    lengths = stores.second.lengths[rows.second[right]]
    right = right[np.argsort(lengths, kind="stable")]
    wrong = wrong[np.argsort(stores.second.lengths[rows.second[wrong[:, 1]]], kind="stable")]
    places = np.concatenate([np.stack([right, right], axis=1), wrong])
    first_rows, first_places = np.unique(rows.first[places[:, 0]], return_inverse=True)
    second_rows, second_places = np.unique(rows.second[places[:, 1]], return_inverse=True)
    answers: dict[str, Tensor] = {}
    if labels is not None:
        questions = rows.second[right]
        answers = {
            "answers": torch.from_numpy(labels.soft(questions)),
            "answer": torch.from_numpy(labels.single(questions)),
        }
    return PairsLoaded(
        rows=rows,
        first=stores.first.padded(first_rows),
        second=stores.second.padded(second_rows),
        pairs=np.stack([first_places, second_places], axis=1),
        right=right,
        targets=targets_of_pairs(len(places), len(right), answers),
    )
