"""Measure an adapter on pairs that it is not trained on."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from ...adapters.adapter import Adapter
from ...adapters.objective import Objective, PairBatch, TeacherFeatures
from ..inputs.pairs import PairDataset, partner_mask
from ..ranking.embeddings import PairedEmbeddings
from ..ranking.recall import headline_recalls
from ..runs.embed_stored import embed_pairs
from .batches import teacher_of_rows


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
    def of_split(cls, stores: PairDataset) -> "Validation":
        """Take all pairs of a split of their own."""
        return cls(stores, stores.images, f"split {stores.pair.split!r}")

    @classmethod
    def held_out(cls, stores: PairDataset, rows: Int64[np.ndarray, " n"]) -> "Validation":
        """Take some images of the split that is trained on."""
        return cls(stores, rows, f"{len(rows)} held-out images of split {stores.pair.split!r}")

    @classmethod
    def choose(
        cls,
        split: PairDataset | None,
        stores: PairDataset,
        held_out: Int64[np.ndarray, " n"],
    ) -> "Validation | None":
        """Take a split of its own, else the images that were held out, else nothing."""
        if split is not None:
            return cls.of_split(split)
        return cls.held_out(stores, held_out) if len(held_out) else None

    def teacher(self) -> TeacherFeatures:
        """Return the averaged tokens of both sides, in the order of their embeddings."""
        rows = self.stores.relations(np.sort(self.images)).rows
        return teacher_of_rows(self.stores, rows.image, rows.text)

    def embed(self, adapter: Adapter, device: torch.device) -> PairedEmbeddings:
        """Embed both sides of the pairs."""
        return embed_pairs(adapter, self.stores, images=self.images, device=device)

    def measure(
        self,
        adapter: Adapter,
        objective: Objective,
        *,
        batch_size: int,
        device: torch.device,
        teacher: TeacherFeatures | None = None,
        pairs: str | None = None,
    ) -> dict[str, Any]:
        """Return the loss and the recalls of both ways.

        Args:
            adapter: Embeds.
            objective: Gives the loss.
            batch_size: Rows of a batch.
            device: Where the adapter is.
            teacher: Features of all pairs, if the objective needs a teacher.
            pairs: None for `mean_loss`; for `mean_loss_of_pairs` what captions of one image are.
        """
        embeddings = self.embed(adapter, device)
        if pairs is None:
            loss = mean_loss(
                objective, embeddings, batch_size=batch_size, device=device, teacher=teacher
            )
        else:
            loss = mean_loss_of_pairs(
                objective,
                embeddings,
                batch_size=batch_size,
                device=device,
                teacher=teacher,
                same_image=pairs,
            )
        return {"loss": loss, **headline_recalls(embeddings)}

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
) -> float:
    """Return the mean loss over batches of `batch_size` images in order, each with its texts.

    Between two text encoders: of the first text of each image, with its others.

    Args:
        objective: Gives the loss.
        embeddings: All images and their texts.
        batch_size: Images of a batch; the last may have fewer.
        device: Where the loss is computed.
        teacher: Features of all of them, if the objective needs a teacher.
    """
    relevance = embeddings.texts_of_image
    anchors = embeddings.anchors
    rows = np.arange(len(embeddings.images)) if anchors is None else anchors
    starts = range(0, len(rows), batch_size)
    total = 0.0
    for start in starts:
        images = rows[start : start + batch_size]
        answers = relevance.take(images)
        texts = np.unique(answers.rows)
        positives = np.zeros((len(images), len(texts)), dtype=bool)
        lines = np.repeat(np.arange(len(images)), answers.counts)
        positives[lines, np.searchsorted(texts, answers.rows)] = True
        if embeddings.same_texts:  # one that two images have in common is not wrong for itself
            positives |= images[:, None] == texts[None, :]
        batch = PairBatch(
            torch.from_numpy(embeddings.images[images]).to(device),
            torch.from_numpy(embeddings.texts[texts]).to(device),
            torch.from_numpy(positives).to(device),
            teacher=None if teacher is None else teacher.take(images, texts).to(device),
            sides=embeddings.sides,
        )
        total += float(objective(batch).total)
    return total / len(starts)


@torch.no_grad()
def mean_loss_of_pairs(
    objective: Objective,
    embeddings: PairedEmbeddings,
    *,
    batch_size: int,
    device: torch.device,
    teacher: TeacherFeatures | None = None,
    same_image: str = "negative",
) -> float:
    """Return the mean loss a pair, each text once with its image, in one fixed random order.

    Source: LightCRL and OneEncoder (lightweightCRL, commit e3421ad; OneEncoder, commit 60b2b62)
    shuffle the pairs of validation once and weigh each batch by its pairs.

    Args:
        objective: Gives the loss.
        embeddings: All images and their texts.
        batch_size: Pairs of a batch; the last may have fewer.
        device: Where the loss is computed.
        teacher: Features of all of them, if the objective needs a teacher.
        same_image: Whether texts of one image are `positive` or `negative` for one another's image.
    """
    relevance = embeddings.texts_of_image
    order = np.random.default_rng(0).permutation(len(relevance.rows))
    all_images = np.repeat(np.arange(len(relevance)), relevance.counts)[order]
    all_texts = relevance.rows[order]
    total = 0.0
    for start in range(0, len(order), batch_size):
        images, texts = (rows[start : start + batch_size] for rows in (all_images, all_texts))
        positives = torch.eye(len(images), dtype=torch.bool)
        if same_image == "positive":
            # a text of several images may be here twice, and the mask is of distinct sorted rows
            places, inverse = np.unique(texts, return_inverse=True)
            partners = [relevance.take(np.array([image])).rows for image in images.tolist()]
            positives = partner_mask(partners, places)[:, inverse]
        batch = PairBatch(
            torch.from_numpy(embeddings.images[images]).to(device),
            torch.from_numpy(embeddings.texts[texts]).to(device),
            positives.to(device),
            teacher=None if teacher is None else teacher.take(images, texts).to(device),
            sides=embeddings.sides,
        )
        total += float(objective(batch).total) * len(images)
    return total / len(order)


def split_rows(
    rows: Int64[np.ndarray, " n"], holdout: float, seed: int
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    """Return the rows to train on and those held out, each in order."""
    count = math.ceil(holdout * len(rows))
    shuffled = np.random.default_rng(seed).permutation(rows)
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])
