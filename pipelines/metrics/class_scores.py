"""Classification by the nearest text: embeddings of images and classes in, numbers out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from .accuracy import top_numbers
from .equal_rows import equal_pairs
from .number import Number
from .ranks import label_ranks

_FIRST = 3  # classes that a failure names


@dataclass(frozen=True)
class ClassScores:
    """Scores of each image for each class, with its right class.

    Attributes:
        scores: Cosine of each image with each class.
        labels: Right class of each image.
        tied: Pairs of classes whose texts have one embedding, the earlier class first: no image is
            nearer to one of them, and ties count against the right one.
    """

    scores: Float32[np.ndarray, "n classes"]
    labels: Int64[np.ndarray, " n"]
    tied: Sequence[tuple[int, int]] = ()

    @property
    def ranks(self) -> Int64[np.ndarray, " n"]:
        """Return the rank of the right class of each image; ties count against it."""
        return label_ranks(self.scores, self.labels)

    @property
    def margins(self) -> Float32[np.ndarray, " n"]:
        """Return how much higher the right class scores than the best wrong one."""
        right, wrong = self._apart()
        margins: np.ndarray = right - wrong.max(axis=1)
        return margins

    @property
    def answers(self) -> Int64[np.ndarray, " n"]:
        """Return the class that each image is taken for; ties go to a wrong one."""
        right, wrong = self._apart()
        answers: np.ndarray = np.where(
            right > wrong.max(axis=1), self.labels, wrong.argmax(axis=1)
        ).astype(np.int64)
        return answers

    def _apart(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores of the right classes, and all scores with those at minus infinity."""
        rows = np.arange(len(self.labels))
        wrong = self.scores.copy()
        wrong[rows, self.labels] = -np.inf
        return self.scores[rows, self.labels], wrong


def class_embeddings(
    texts: Float32[np.ndarray, "texts embed"], num_templates: int
) -> Float32[np.ndarray, "classes embed"]:
    """Return the embedding of each class: the mean over its templates, made of length 1 again.

    Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision,
    ICML 2021, section 3.1.4.

    Args:
        texts: Embeddings of length 1 of all templates of the first class, then of the next.
        num_templates: Templates of a class.
    """
    means = texts.reshape(-1, num_templates, texts.shape[1]).mean(axis=1)
    embeddings: np.ndarray = means / np.linalg.norm(means, axis=1, keepdims=True)
    return embeddings.astype(np.float32)


def score_classes(
    images: Float32[np.ndarray, "n embed"],
    labels: Int64[np.ndarray, " n"],
    texts: Float32[np.ndarray, "texts embed"],
    num_templates: int,
) -> ClassScores:
    """Return how well each image goes with each class, by the texts of `class_embeddings`."""
    classes = class_embeddings(texts, num_templates)
    return ClassScores(images @ classes.T, labels, equal_pairs(classes))


def per_class_numbers(
    ranks: Int64[np.ndarray, " n"], labels: Int64[np.ndarray, " n"], names: Sequence[str]
) -> dict[str, dict[str, Number]]:
    """Return `top_1` to `top_5` of each class that has an image, percent."""
    return {
        name: top_numbers(ranks[labels == index], num_classes=len(names))
        for index, name in enumerate(names)
        if (labels == index).any()
    }


def confusion(scored: ClassScores) -> Int64[np.ndarray, "classes classes"]:
    """Return how many images of each class, by row, were taken for each class, by column."""
    num_classes = scored.scores.shape[1]
    counts = np.bincount(scored.labels * num_classes + scored.answers, minlength=num_classes**2)
    matrix: np.ndarray = counts.reshape(num_classes, num_classes)
    return matrix


def worst_images(
    scored: ClassScores, ids: Sequence[str], names: Sequence[str], *, most: int
) -> list[Mapping[str, Any]]:
    """Return the wrong images whose right class scores furthest below the first, furthest first.

    Each says what came first, with its cosine, and the rank and cosine of the right class.
    """
    ranks, margins = scored.ranks, scored.margins
    # stable: of equal margins the earlier image, on every machine
    order = np.argsort(margins, kind="stable")[:most]

    def named(row: int, place: int) -> dict[str, Any]:
        return {"name": names[place], "score": float(scored.scores[row, place])}

    return [
        {
            "query": ids[row],
            "rank": int(ranks[row]),
            "first": [
                named(row, place)
                for place in np.argsort(-scored.scores[row], kind="stable")[:_FIRST].tolist()
            ],
            "right": [named(row, int(scored.labels[row]))],
        }
        for row in order.tolist()
        if margins[row] <= 0
    ]
