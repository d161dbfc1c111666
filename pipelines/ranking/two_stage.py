"""Retrieval in two stages: the first k by the cosine, put in order by a judge of pairs.

Axis names: `q` queries, `k` first answers.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, Float64, Int64

from ..common.progress import SILENT, Progress
from ..metrics.bootstrap import BootstrapDraws, interval_of
from ..metrics.number import Number
from ..metrics.ranks import ranks_in_top
from .embeddings import PairedEmbeddings
from .faiss_index import FlatIndex, search
from .ranking import Direction, both_directions, ranks_only
from .recall import HEADLINE, recall_table
from .rerank import Reranker, judge

ITM, SUM = "itm", "itm_and_cosine"
_AT_ONCE = 2**13  # pairs between two signs of progress


@dataclass(frozen=True)
class _Judged:
    """First answers of all queries of a direction, with both scores of each.

    Attributes:
        rows: Their gallery rows.
        cosines: Score of the first stage.
        judged: Score of the judge.
        seconds: Time of each stage.
    """

    rows: Int64[np.ndarray, "q k"]
    cosines: Float32[np.ndarray, "q k"]
    judged: Float32[np.ndarray, "q k"]
    seconds: Mapping[str, float]


class TwoStageRetrieval:
    """Measure what a judge of pairs makes of the first answers of each query.

    A score is of its pair alone: it is the same for any `k`.

    Args:
        k: Answers of the first stage that are judged, at least 10.
        scale: Factor on cosines that are added to the judge's scores.
        reranker_of: Returns the judge of a direction; its rows are those of the direction.
    """

    definitions: ClassVar[dict[str, str]] = {
        ITM: (
            "the first k of each query by the cosine, in the order of the logit of a match less "
            "that of none, by a run that reads both items together; what is not among these k is "
            "missed"
        ),
        SUM: (
            "the same in the order of that difference plus scale x cosine. Wrong pairs that are "
            "drawn in proportion to exp(scale x cosine) hide the cosine from the difference: it "
            "tells the log of how much oftener a pair is right than drawn as a wrong one, and "
            "scale x cosine is what that lacks. The scale is that of the draws of the joint run, "
            "where none is asked for; no other query, item or k takes part"
        ),
        "ceiling": "R@k of the cosine: what no order of the first k exceeds",
        "recall_sum_difference": (
            "recall_sum less that of the cosine, with the interval of the difference: both are of "
            "the same bootstrap draws of images with their texts"
        ),
        "seconds_per_query": (
            "time of a query in the first stage, by exact search among embeddings that are there, "
            "and in reading its first k together with it, from features that are in memory where "
            "they fit; all queries at once, on this machine"
        ),
    }

    def __init__(
        self, *, k: int, scale: float, reranker_of: Callable[[Direction], Reranker]
    ) -> None:
        self.k = k
        self.scale = scale
        self.reranker_of = reranker_of

    def run(self, embeddings: PairedEmbeddings, progress: Progress = SILENT) -> dict[str, Any]:
        """Return the tables of both orders, each with those of both directions and their sum.

        Raises:
            DivergedError: A score is not finite.
        """
        directions = both_directions(embeddings)
        draws = BootstrapDraws(1 + max(int(direction.groups.max()) for direction in directions))
        sums = {name: _RecallSum(draws) for name in ("", ITM, SUM)}
        tables: dict[str, dict[str, Any]] = {ITM: {}, SUM: {}}
        for direction in directions:
            judged = self._judge(direction, progress)
            depth = judged.rows.shape[1]
            ranks = ranks_only(direction, depth)
            cosine, of_recalls = recall_table(direction, ranks, draws, k=depth)
            sums[""].add(cosine, of_recalls)
            beside = {
                "ceiling": _ceiling(cosine),
                "seconds_per_query": {
                    name: seconds / len(direction.queries)
                    for name, seconds in judged.seconds.items()
                },
            }
            for name, scores in self._orders(judged).items():
                ranks = self._ranks(direction, judged.rows, scores)
                table, of_recalls = recall_table(direction, ranks, draws, k=depth)
                sums[name].add(table, of_recalls)
                tables[name][direction.name] = {**table, **beside}
        for name, table in tables.items():
            table["recall_sum"] = sums[name].number().table()
            table["recall_sum_difference"] = sums[name].less(sums[""]).table()
        return tables

    def _judge(self, direction: Direction, progress: Progress) -> _Judged:
        began = time.perf_counter()
        depth = min(self.k, direction.num_gallery)
        cosines, rows = search(FlatIndex(direction.gallery), direction.queries, depth)
        searched = time.perf_counter()
        reranker = self.reranker_of(direction)
        judged = np.empty(rows.shape, dtype=np.float32)
        size = max(1, _AT_ONCE // depth)
        starts = range(0, len(rows), size)
        label = f"judge {direction.name.replace('_', ' ')}"
        for start in progress.track(starts, label, len(starts), unit="blocks"):
            judged[start : start + size] = judge(reranker, rows[start : start + size], first=start)
        seconds = {"first_stage": searched - began, "reading": time.perf_counter() - searched}
        return _Judged(rows, cosines, judged, seconds)

    def _orders(self, judged: _Judged) -> dict[str, Float32[np.ndarray, "q k"]]:
        both = judged.judged.astype(np.float64) + self.scale * judged.cosines.astype(np.float64)
        return {ITM: judged.judged, SUM: both.astype(np.float32)}

    def _ranks(
        self,
        direction: Direction,
        rows: Int64[np.ndarray, "q k"],
        scores: Float32[np.ndarray, "q k"],
    ) -> Int64[np.ndarray, " q"]:
        """Return the rank of each query among its first answers; one after the last if missed."""
        # the order of the first stage has no say: ties count against the system here, too
        ranks = ranks_in_top(scores, rows, direction.relevance, num_gallery=rows.shape[1])
        return np.where(ranks == 0, direction.num_gallery + 1, ranks)


class _RecallSum:
    """Sum of the recalls of both directions, and the same in each draw."""

    def __init__(self, draws: BootstrapDraws) -> None:
        self.recalls: list[Mapping[str, Any]] = []
        self.num = 0
        self.drawn: Float64[np.ndarray, " draws"] = np.zeros(draws.draws)

    def add(self, table: Mapping[str, Any], of_recalls: Float64[np.ndarray, "draws r"]) -> None:
        """Add the recalls of a direction."""
        self.recalls += table["recall"].values()
        self.num += table["num_queries"]
        self.drawn = self.drawn + of_recalls.sum(axis=1)

    @property
    def value(self) -> float:
        """Return the sum."""
        total: float = sum(recall["value"] for recall in self.recalls)
        return total

    def number(self) -> Number:
        """Return the sum with its interval and what chance gets."""
        return Number(
            value=self.value,
            num=self.num,
            interval=interval_of(self.drawn),
            chance=sum(recall["chance"] for recall in self.recalls),
        )

    def less(self, other: "_RecallSum") -> Number:
        """Return how much it is above another of the same queries and the same draws."""
        return Number(
            value=self.value - other.value,
            num=self.num,
            interval=interval_of(self.drawn - other.drawn),
        )


def _ceiling(cosine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the last recall of a curve."""
    curve = cosine["curve"]
    return Number(
        value=curve["recall"][-1],
        num=cosine["num_queries"],
        interval=(curve["low"][-1], curve["high"][-1]),
        chance=curve["chance"][-1],
    ).table()


__all__ = ["HEADLINE", "ITM", "SUM", "TwoStageRetrieval"]
