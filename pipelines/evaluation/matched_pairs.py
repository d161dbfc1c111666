"""Balanced accuracy of matching: right pairs of a split against wrong ones, random and hard.

Axis names: `lines` right pairs, each of which draws a wrong partner; `g` gallery rows.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ..common.progress import SILENT, Progress
from ..metrics.bootstrap import BootstrapDraws
from ..metrics.intervals import drawn_share_interval
from ..metrics.number import Number
from ..ranking.embeddings import PairedEmbeddings
from ..ranking.ranking import Direction, both_directions
from ..ranking.rerank import Reranker
from ..training.joint.negatives import NONE, draw_partners

_BLOCK_SCORES = 2**22  # similarities held at once: 32 MiB in float64
_AT_ONCE = 2**13  # pairs between two signs of progress
KINDS = {"random": 0.0, "hard": 1.0}  # share of wrong partners that the cosine draws


class PairMatching:
    """Measure how often a judge tells right pairs of a split from wrong ones.

    Args:
        scale: Factor on cosines before the softmax by which hard partners are drawn.
        reranker_of: Returns the judge of a direction; a score above 0 is a match.
    """

    definitions: ClassVar[dict[str, str]] = {
        "matching": (
            "logit differences above 0 as matches, on all right pairs of the split and on as many "
            "wrong ones of each direction: every right pair draws an item that does not belong to "
            "its query from the whole gallery, with one seed; `random` draws uniformly, `hard` in "
            "proportion to exp(scale x cosine) of the first stage"
        ),
        "balanced_accuracy": (
            "mean of the shares of right and of wrong pairs that are told; the interval is the "
            "score interval (Wilson) of as many single pairs as would vary as much as bootstrap "
            "draws of whole images do"
        ),
    }

    def __init__(self, *, scale: float, reranker_of: Callable[[Direction], Reranker]) -> None:
        self.scale = scale
        self.reranker_of = reranker_of

    def run(self, embeddings: PairedEmbeddings, progress: Progress = SILENT) -> dict[str, Any]:
        """Return a table of each kind of wrong pairs.

        Raises:
            DivergedError: A score is not finite.
        """
        directions = both_directions(embeddings)
        judges = [self.reranker_of(direction) for direction in directions]
        num_groups = 1 + max(int(direction.groups.max()) for direction in directions)
        draws = BootstrapDraws(num_groups)
        lines = _lines(directions[0])
        right = _told(judges[0], lines, directions[0].relevance.rows, progress)
        groups = directions[0].groups[lines]
        drawn_right = draws.means(100.0 * right[:, None], groups)[:, 0]
        tables = {}
        for kind, hard in KINDS.items():
            random = np.random.default_rng(0)
            hits, of_groups = [], []
            for direction, judge in zip(directions, judges, strict=True):
                lines, wrong = self._wrong_pairs(direction, hard, random)
                hits.append(~_told(judge, lines, wrong, progress))
                of_groups.append(direction.groups[lines])
            passed, wrong_groups = np.concatenate(hits), np.concatenate(of_groups)
            drawn_wrong = draws.means(100.0 * passed[:, None], wrong_groups)[:, 0]
            tables[kind] = {
                "balanced_accuracy": _number(
                    50.0 * (right.mean() + passed.mean()),
                    (drawn_right + drawn_wrong) / 2,
                    groups=num_groups,
                    num=len(right) + len(passed),
                ),
                "right_told": _number(
                    100.0 * right.mean(), drawn_right, groups=num_groups, num=len(right)
                ),
                "wrong_told": _number(
                    100.0 * passed.mean(), drawn_wrong, groups=num_groups, num=len(passed)
                ),
            }
        return tables

    def _wrong_pairs(
        self, direction: Direction, hard: float, random: np.random.Generator
    ) -> tuple[Int64[np.ndarray, " wrong"], Int64[np.ndarray, " wrong"]]:
        """Return queries and gallery rows of wrong pairs, one a right pair of the direction."""
        all_lines, partners = _lines(direction), []
        for lines, positives in _blocks(direction, all_lines):
            logits = self.scale * (direction.queries[lines] @ direction.gallery.T)
            partners.append(draw_partners(positives, logits, hard=hard, random=random))
        wrong = np.concatenate(partners)
        # an item to which the whole gallery belongs has no wrong partner
        return all_lines[wrong != NONE], wrong[wrong != NONE]


def _lines(direction: Direction) -> Int64[np.ndarray, " lines"]:
    """Return the query of each right pair."""
    return np.repeat(np.arange(len(direction.queries)), direction.relevance.counts)


def _blocks(
    direction: Direction, lines: Int64[np.ndarray, " lines"]
) -> Iterator[tuple[Int64[np.ndarray, " block"], Bool[np.ndarray, "block g"]]]:
    """Yield some queries after the other, with what belongs to each."""
    num_gallery = len(direction.gallery)
    size = max(1, _BLOCK_SCORES // num_gallery)
    for start in range(0, len(lines), size):
        block = lines[start : start + size]
        relevance = direction.relevance.take(block)
        positives = np.zeros((len(block), num_gallery), dtype=bool)
        positives[np.repeat(np.arange(len(block)), relevance.counts), relevance.rows] = True
        yield block, positives


def _told(
    judge: Reranker,
    queries: Int64[np.ndarray, " pairs"],
    rows: Int64[np.ndarray, " pairs"],
    progress: Progress,
) -> Bool[np.ndarray, " pairs"]:
    """Return whether a judge takes each pair for a match."""
    told = np.empty(len(queries), dtype=bool)
    starts = range(0, len(queries), _AT_ONCE)
    for start in progress.track(starts, "match pairs", len(starts), unit="blocks"):
        block = slice(start, start + _AT_ONCE)
        told[block] = judge.score(queries[block], rows[block]) > 0
    return told


def _number(
    value: float, drawn: Float64[np.ndarray, " draws"], *, groups: int, num: int
) -> dict[str, Any]:
    interval = drawn_share_interval(float(value), drawn, groups=groups, items=num)
    return Number(value=float(value), num=num, interval=interval, chance=50.0).table()
