"""Retrieval in folds of the images, each with a gallery of its own, as the COCO protocol has it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64, Int64

from ...featcache.errors import SpecError
from ...featcache.links import Links
from ...featcache.types import in_words
from ..metrics.bootstrap import BootstrapDraws, interval_of
from ..metrics.chance import chance_curve
from ..metrics.intervals import drawn_share_interval
from ..metrics.number import Number
from ..metrics.ranks import Relevance
from .embeddings import PairedEmbeddings
from .ranking import Direction, both_directions, ranks_only, without_repeats
from .recall import HEADLINE, Retrieval


class FoldedRetrieval:
    """Average the recalls over folds of consecutive images, each searched by itself.

    Source: Karpathy and Fei-Fei 2015 (arXiv 1412.2306) on COCO: "1K" is the mean over five folds of
    1,000 test images, "5K" the whole; in the order of the images' file, as VSE++ (Faghri et al.
    2018, arXiv 1707.05612, evaluation.py) and all after it take them.

    Args:
        retrieval: The retrieval within a fold, with its scores.
        count: Number of folds, at least 2.
        links: What an image brings; all of its right answers if None.

    Raises:
        SpecError: There are fewer than two folds.
    """

    definitions: ClassVar[dict[str, str]] = {
        "folds": (
            "mean over folds of consecutive images, in the order of the dataset, of the recalls "
            "within each, whose gallery is that fold alone; chance is the mean, too, and the "
            "interval draws images again within each fold"
        ),
    }

    def __init__(
        self,
        retrieval: Retrieval,
        count: int,
        *,
        links: Links | None = None,
    ) -> None:
        if count < 2:
            raise SpecError(f"--folds must be at least 2, found {count}")
        self.retrieval = retrieval
        self.count = count
        self.links = links

    def run(self, embeddings: PairedEmbeddings) -> dict[str, Any]:
        """Return the recalls of both directions and their sum, each a mean over the folds.

        Raises:
            SpecError: There are fewer images than folds, or both sides are of one modality.
        """
        folds = split_folds(embeddings, self.count, links=self.links)
        by_fold = [
            [self.retrieval.scored(direction) for direction in both_directions(fold)]
            for fold in folds
        ]
        metrics: dict[str, Any] = {"num_folds": self.count}
        values, chances, drawn, num = 0.0, 0.0, np.zeros(BootstrapDraws(1).draws), 0
        for directions in zip(*by_fold, strict=True):
            table, of_draws = _measure(directions)
            metrics[directions[0].name] = table
            values += sum(recall["value"] for recall in table["recall"].values())
            chances += sum(recall["chance"] for recall in table["recall"].values())
            drawn += of_draws.sum(axis=1)
            num += table["num_queries"]
        metrics["recall_sum"] = Number(
            value=values, num=num, interval=interval_of(drawn), chance=chances
        ).table()
        return metrics


def split_folds(
    embeddings: PairedEmbeddings,
    count: int,
    *,
    links: Links | None = None,
) -> list[PairedEmbeddings]:
    """Return consecutive images with their texts, as evenly many as they can be.

    An image brings the texts of its `links`, or else all of its right answers. A text of another
    fold that is right here because it says the same stays there.

    Raises:
        SpecError: There are fewer images than folds, or both sides are of one modality.
    """
    if embeddings.same_items:
        raise SpecError(
            f"--folds is of images with their texts: this run aligns {in_words(embeddings.sides)}"
        )
    whole = without_repeats(embeddings)
    num = len(whole.first)
    if num < count:
        raise SpecError(f"--folds {count} of {num} images: name fewer")
    brought = whole.seconds_of_first
    if links is not None:
        brought_links = set(links.id_pairs(whole.sides))
        rows = zip(whole.first_ids, _rows(brought), strict=True)
        brought = Relevance.of(
            [
                [n for n in texts if (name, whole.second_ids[n]) in brought_links]
                for name, texts in rows
            ]
        )
    parts = np.array_split(np.arange(num), count)
    return [_fold(whole, images, np.unique(brought.take(images).rows)) for images in parts]


def _fold(
    whole: PairedEmbeddings,
    first: Int64[np.ndarray, " n"],
    second: Int64[np.ndarray, " m"],
) -> PairedEmbeddings:
    # rows of the fold count from 0, and right answers beyond it are none
    place = {row: number for number, row in enumerate(second.tolist())}
    seconds_of = [
        [place[row] for row in relevant if row in place]
        for relevant in _rows(whole.seconds_of_first.take(first))
    ]
    # folds are of consecutive rows
    start, end = int(first[0]), int(first[-1])
    firsts_of = [
        [row - start for row in sorted(relevant) if start <= row <= end]
        for relevant in _rows(whole.firsts_of_second.take(second))
    ]
    return replace(
        whole,
        first=whole.first[first],
        second=whole.second[second],
        first_ids=tuple(whole.first_ids[row] for row in first.tolist()),
        second_ids=tuple(whole.second_ids[row] for row in second.tolist()),
        seconds_of_first=Relevance.of(seconds_of),
        firsts_of_second=Relevance.of(firsts_of),
        anchors=None,
    )


def _rows(relevance: Relevance) -> list[list[int]]:
    parts = np.split(relevance.rows, relevance.offsets[1:-1])
    return [part.tolist() for part in parts]


def _measure(
    directions: Sequence[Direction],
) -> tuple[dict[str, Any], Float64[np.ndarray, "draws recalls"]]:
    """Return the mean recalls of one direction over the folds, and the same in each draw."""
    # a recall of fewer folds would be no mean over them
    smallest = min(fold.num_gallery for fold in directions)
    ks = [k for k in HEADLINE if k <= smallest]
    values, chances, drawn = [], [], []
    for number, direction in enumerate(directions):
        hits = 100.0 * (ranks_only(direction, ks[-1])[:, None] <= np.array(ks))
        # a fold has some of the groups; draws are of numbers without gaps
        groups = np.unique(direction.groups, return_inverse=True)[1]
        values.append(hits.mean(axis=0))
        counts = direction.relevance.counts
        chance = chance_curve(counts, num_gallery=direction.num_gallery, k=ks[-1])
        chances.append(chance[np.array(ks) - 1])
        drawn.append(BootstrapDraws(int(groups.max()) + 1, seed=number).means(hits, groups))
    means, of_draws = np.mean(values, axis=0), np.mean(drawn, axis=0)
    num = sum(len(fold.queries) for fold in directions)
    num_groups = sum(len(np.unique(fold.groups)) for fold in directions)
    recall = {
        str(k): Number(
            value=float(means[place]),
            num=num,
            interval=drawn_share_interval(
                float(means[place]), of_draws[:, place], groups=num_groups, items=num
            ),
            chance=float(np.mean(chances, axis=0)[place]),
        ).table()
        for place, k in enumerate(ks)
    }
    galleries = [fold.num_gallery for fold in directions]
    return {"num_queries": num, "galleries": galleries, "recall": recall}, of_draws
