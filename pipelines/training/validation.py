"""Validation of an adapter on pairs that it is not trained on."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int64

from ...adapters.adapter import Adapter
from ...adapters.objective import Objective, PairBatch, TeacherFeatures
from ...adapters.positives import Positives
from ..inputs.pairs import PairDataset, partner_links
from ..ranking.embeddings import PairedEmbeddings
from ..runs.embed_stored import embed_pairs
from .batches import teacher_of_rows

# image rows, text rows, which of them belong together, and the weight of the batch
_RowsOfBatch: TypeAlias = tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " m"], Positives, int]


@dataclass(frozen=True)
class Validation:
    """Pairs by which weights are chosen.

    Attributes:
        stores: Where their features are.
        images: Numbers of their images.
        name: What they are, for reports.
    """

    stores: PairDataset
    images: Int64[np.ndarray, " n"]
    name: str

    @classmethod
    def choose(
        cls,
        split: PairDataset | None,
        stores: PairDataset,
        held_out: Int64[np.ndarray, " n"],
    ) -> "Validation | None":
        """Return that of a split of its own, else of the held-out images, else none."""
        if split is not None:
            return cls(split, split.images, f"split {split.pair.split!r}")
        if not len(held_out):
            return None
        name = f"{len(held_out)} held-out {stores.owner}s of split {stores.pair.split!r}"
        return cls(stores, held_out, name)

    def teacher(self) -> TeacherFeatures:
        """Return the averaged tokens of both sides, in the order of their embeddings."""
        # sorted, as `embed_pairs` embeds them
        rows = self.stores.relations(np.sort(self.images)).rows
        return teacher_of_rows(self.stores, rows.first, rows.second)

    def embed(self, adapter: Adapter, device: torch.device) -> PairedEmbeddings:
        """Embed both sides of the pairs."""
        return embed_pairs(adapter, self.stores, images=self.images, device=device)

    def measure(
        self,
        adapter: Adapter,
        objective: Objective,
        *,
        measure: Callable[[PairedEmbeddings], dict[str, Any]],
        batch_size: int,
        device: torch.device,
        teacher: TeacherFeatures | None = None,
        same_image: str | None = None,
    ) -> dict[str, Any]:
        """Return the loss, and what `measure` does; the other options are those of `mean_loss`."""
        embeddings = self.embed(adapter, device)
        loss = mean_loss(
            objective,
            embeddings,
            batch_size=batch_size,
            device=device,
            teacher=teacher,
            same_image=same_image,
        )
        return {"loss": loss, **measure(embeddings)}

    def sample(self, most: int) -> "Validation":
        """Return the same with at most so many images, spread over all."""
        count = len(self.images)
        places = np.linspace(0, count - 1, min(most, count)).astype(np.int64)
        return Validation(self.stores, self.images[places], self.name)


def pair_warnings(stores: PairDataset, validation: Validation | None) -> list[str]:
    """Return what a report says of the pairs that are trained on, and of those that validate."""
    others = [] if validation is None else validation.stores.warnings
    return list(dict.fromkeys([*stores.warnings, *others]))  # both may be of one split


@torch.no_grad()
def mean_loss(
    objective: Objective,
    embeddings: PairedEmbeddings,
    *,
    batch_size: int,
    device: torch.device,
    teacher: TeacherFeatures | None = None,
    same_image: str | None = None,
) -> float:
    """Return the mean loss over batches as a training has them.

    A batch is of images, say, in order, each with its texts; between two encoders of texts, of the
    first text of each image, with its others. With `same_image` it is of pairs, each text once with
    its image, in one fixed random order, and counts by its pairs.

    Source of the latter: LightCRL and OneEncoder (lightweightCRL, commit e3421ad; OneEncoder,
    commit 60b2b62) shuffle the pairs of validation once and weigh each batch by its pairs.

    Args:
        objective: Gives the loss.
        embeddings: All images and their texts.
        batch_size: Images or pairs of a batch; the last may have fewer.
        device: Where the loss is computed.
        teacher: Features of all of them, if the objective needs a teacher.
        same_image: Whether texts of one image in a batch of pairs are `positive` or `negative` for
            one another's image; None for batches of images.
    """
    batches = (
        _batches_of_images(embeddings, batch_size)
        if same_image is None
        else _batches_of_pairs(embeddings, batch_size, same_image)
    )
    total, weights = 0.0, 0
    for images, texts, positives, weight in batches:
        batch = PairBatch(
            torch.from_numpy(embeddings.first[images]).to(device),
            torch.from_numpy(embeddings.second[texts]).to(device),
            positives.as_mask(objective.most_logits).to(device),
            teacher=None if teacher is None else teacher.take(images, texts).to(device),
            sides=embeddings.sides,
        )
        total += float(objective(batch).total) * weight
        weights += weight
    return total / weights


def _batches_of_images(embeddings: PairedEmbeddings, size: int) -> Iterator[_RowsOfBatch]:
    relevance = embeddings.seconds_of_first
    anchors = embeddings.anchors
    rows = np.arange(len(embeddings.first)) if anchors is None else anchors
    for start in range(0, len(rows), size):
        images = rows[start : start + size]
        answers = relevance.take(images)
        texts = np.unique(answers.rows)
        lines, right = np.repeat(np.arange(len(images)), answers.counts), answers.rows
        # a text that two images have in common is not wrong for itself
        if embeddings.same_items:
            alike = np.flatnonzero(np.isin(images, texts))
            lines, right = np.append(lines, alike), np.append(right, images[alike])
        shape = len(images), len(texts)
        links = np.unique(lines * shape[1] + np.searchsorted(texts, right))  # each pair once
        places = [torch.from_numpy(part) for part in np.divmod(links, shape[1])]
        yield images, texts, Positives(places[0], places[1], shape), 1


def _batches_of_pairs(
    embeddings: PairedEmbeddings, size: int, same_image: str
) -> Iterator[_RowsOfBatch]:
    relevance = embeddings.seconds_of_first
    # the same order in every epoch: with another the loss would move by what shares a batch
    order = np.random.default_rng(0).permutation(len(relevance.rows))
    all_images = np.repeat(np.arange(len(relevance)), relevance.counts)[order]
    all_texts = relevance.rows[order]
    for start in range(0, len(order), size):
        images, texts = (rows[start : start + size] for rows in (all_images, all_texts))
        positives = Positives.diagonal(len(images))
        if same_image == "positive":
            partners = [relevance.take(np.array([image])).rows for image in images.tolist()]
            positives = partner_links(partners, texts)
        yield images, texts, positives, len(images)


def split_rows(
    rows: Int64[np.ndarray, " n"], holdout: float, seed: int
) -> tuple[Int64[np.ndarray, " trained"], Int64[np.ndarray, " held"]]:
    """Return the rows to train on and those held out, each in order."""
    # rounded up: any share above zero leaves an image to validate on
    count = math.ceil(holdout * len(rows))
    shuffled = np.random.default_rng(seed).permutation(rows)
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])
