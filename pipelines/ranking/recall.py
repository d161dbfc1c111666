"""Retrieval across two sides, in both directions."""

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32, Int64

from ...featcache.errors import SpecError
from ..metrics.bootstrap import BootstrapDraws, interval_of
from ..metrics.chance import (
    chance_average_precision,
    chance_curve,
    chance_in_first,
    chance_of_ranks,
)
from ..metrics.intervals import drawn_share_interval
from ..metrics.number import Number, written
from ..metrics.ranks import recall_curve
from .embeddings import PairedEmbeddings
from .faiss_index import BuiltIndex, FlatIndex, build
from .hubness import dual_softmax, querybank
from .index_plan import EXACT, plan_index
from .normalisation import COSINE, DUAL_SOFTMAX, PUBLISHED, QUERYBANK, Normalisation, check_scoring
from .ranking import FIRST, Direction, Ranking, both_directions, rank, ranks_by, ranks_only
from .rerank import Reranker

HEADLINE = (1, 5, 10)
_BLOCK_SCORES = 2**24  # scores of the worst queries held at once: 64 MiB
_EVERY_RANK = 100  # up to here the curve has a point for each k, beyond for each hundredth


class Retrieval:
    """Measure recalls, precision and ranks, text to image and image to text.

    Between other sides: from each to the other; where both are of one modality, as of two text
    encoders, for another text of the same image.

    Args:
        k: Largest rank of the curve; a smaller gallery cuts it.
        scoring: One of `normalisation.SCORINGS`.
        bank: Embeddings of training items, by the kind of query: `image` and `text`, or the two
            sides of texts; `qb-norm` needs them.
        normalisation: How `qb-norm` normalises by them.
        index: One of `index_plan.KINDS`, or a FAISS factory string. By an approximate one there
            are recalls alone: precision and ranks need the whole gallery.
        memory_budget: Bytes that an index may take, or None for half of what is free.
        rerankers: By the name of a direction, such as `text_to_image`, what puts the first k (10 at
            least) of each query into a new order; its rows are those of the direction.

    Raises:
        SpecError: `k` is below 1.
        UnknownNameError: There is no such scoring.
    """

    definitions: ClassVar[dict[str, str]] = {
        "recall": (
            "percent of queries with at least one right answer among the first k of the gallery; "
            "for an image any of its texts is right, for a text any other text of its image"
        ),
        "rank": (
            "1 + number of wrong answers that score at least as high as the best right answer; "
            "ties count against the system"
        ),
        "gallery": "all items of the other side, each id once",
        "chance": "expectation over all random orders of the same gallery",
        "mean_average_precision": (
            "mean over queries of the average precision over the whole gallery, percent: the mean "
            "over the right answers of j / (j + w), where the answer is the j-th best of the right "
            "ones and w wrong ones score at least as high; of what ties, the wrong come first"
        ),
        "own_in_first_5": (
            "percent of queries that have at least j of their right answers among the first 5 of "
            "the gallery, for j from 1 to 5, where queries have several: LightCRL's text "
            "retrieval; of what ties, the wrong come first"
        ),
        "mean_reciprocal_rank": "mean over queries of 1 / rank, percent",
        "median_rank": "median over queries of the rank; 1 is perfect",
        "mean_rank": "mean over queries of the rank; 1 is perfect",
        "own_text": (
            "between two text encoders the text of the query's own id is left out of its gallery, "
            "neither right nor wrong, and chance is that of the rest; a text whose image has no "
            "other is no query, but stays in the gallery of all others"
        ),
        "recall_sum": (
            "sum of those of R@1, R@5 and R@10 of both directions that stand beside it, at most "
            "600; less where a gallery has fewer than 10 items"
        ),
        "index": (
            "an approximate one, or a judge that re-orders the first k, gives recalls alone, by "
            "its own scores; a right answer that is not among the first k is missed"
        ),
        "interval": (
            "95 % over 1000 bootstrap draws of the queries; those of one image are drawn together, "
            "as they depend on one another: of recalls the score interval (Wilson) of as many "
            "single queries as would vary as much as the draws do, which has a width where all or "
            "none are hits, too; of all else the percentiles of the draws, which have no width "
            "where no draw differs"
        ),
    }

    def __init__(
        self,
        *,
        k: int = 100,
        scoring: str = COSINE,
        bank: Mapping[str, Float32[np.ndarray, "_ embed"]] | None = None,
        normalisation: Normalisation = PUBLISHED,
        index: str = EXACT,
        memory_budget: int | None = None,
        rerankers: Mapping[str, Reranker] | None = None,
    ) -> None:
        if k < 1:
            raise SpecError(f"--k must be at least 1, found {k}")
        check_scoring(scoring)
        assert index == EXACT or scoring == COSINE, "an index finds what is near by the cosine"
        assert (scoring == QUERYBANK) == (bank is not None), "a bank is that of qb-norm"
        self.k = k
        self.scoring = scoring
        self.bank = bank
        self.normalisation = normalisation
        self.index = index
        self.memory_budget = memory_budget
        self.rerankers = rerankers or {}

    def run(self, embeddings: PairedEmbeddings) -> dict[str, Any]:
        """Return a table of each direction, and `recall_sum`; numbers as `Number.table` has them.

        The directions are called after their sides.
        """
        return self.examine(embeddings)[0]

    def examine(self, embeddings: PairedEmbeddings) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return what `run` does, and `worst_queries` of both directions."""
        directions = [self.scored(direction) for direction in both_directions(embeddings)]
        # the same draws of groups for both directions, whose recalls depend on one another
        draws = BootstrapDraws(1 + max(int(direction.groups.max()) for direction in directions))
        metrics: dict[str, Any] = {}
        recalls, drawn, failures = [], np.zeros(draws.draws), []
        for direction in directions:
            table, of_recalls, worst = self.measure(direction, draws)
            metrics[direction.name] = table
            recalls += list(table["recall"].values())
            drawn += of_recalls.sum(axis=1)
            failures += worst
        metrics["recall_sum"] = Number(
            value=sum(recall["value"] for recall in recalls),
            num=sum(len(direction.queries) for direction in directions),
            interval=interval_of(drawn),
            chance=sum(recall["chance"] for recall in recalls),
        ).table()
        return metrics, failures

    def measure(
        self, direction: Direction, draws: BootstrapDraws
    ) -> tuple[dict[str, Any], Float[np.ndarray, "draws recalls"], list[dict[str, Any]]]:
        """Return the table of one direction, R@1, R@5 and R@10 in each draw, and `worst_queries`.

        Without precision and ranks there are no worst queries either.
        """
        began = time.perf_counter()
        built, reranker = self._built(direction), self.rerankers.get(direction.name)
        beside: dict[str, Any] = {}
        worst: list[dict[str, Any]] = []
        # the exact search counts over all scores; an index and a reranker see the first answers
        if built is None and reranker is None:
            ranking = rank(direction)
            ranks, beside = ranking.ranks, _rank_numbers(direction, ranking, draws)
            beside |= _own_in_first(direction, ranking, draws)
            worst = worst_queries(direction, ranks)
        else:
            index = FlatIndex(direction.gallery) if built is None else built.index
            ranks = ranks_by(index, direction, max(self.k, *HEADLINE), reranker)
            if built is not None:
                beside = {"index": _described(built)}
        table, of_recalls = recall_table(direction, ranks, draws, k=self.k)
        return {**table, **beside, "seconds": time.perf_counter() - began}, of_recalls, worst

    def scored(self, direction: Direction) -> Direction:
        """Return the direction with the scores that are asked for."""
        if self.scoring == DUAL_SOFTMAX:
            return dual_softmax(direction)
        if self.bank is None:
            return direction
        # the bank is of the kind that asks: queries it stands for are not tested
        bank = self.bank[direction.name.partition("_to_")[0]]
        return querybank(direction, bank, self.normalisation)

    def _built(self, direction: Direction) -> BuiltIndex | None:
        """Return an approximate index of the gallery, or None where the exact search is wanted."""
        if self.index.lower() == EXACT:
            return None
        num, width = direction.gallery.shape
        plan = plan_index(self.index, num=num, width=width, memory_budget=self.memory_budget)
        if not plan.approximate:
            return None
        return build(
            direction.gallery,
            plan.asked,
            queries=direction.queries,
            memory_budget=plan.memory_budget,
        )


def recall_table(
    direction: Direction, ranks: Int64[np.ndarray, " q"], draws: BootstrapDraws, *, k: int
) -> tuple[dict[str, Any], Float[np.ndarray, "draws recalls"]]:
    """Return the recalls of one direction with the curve up to `k`, and R@1, 5, 10 in each draw."""
    groups, num = direction.groups, len(direction.queries)
    num_gallery, counts = direction.num_gallery, direction.relevance.counts
    points = curve_points(min(k, num_gallery))
    headline = [place for place in HEADLINE if place <= num_gallery]
    looked_at = np.union1d(points, headline)
    chance = chance_curve(counts, num_gallery=num_gallery, k=int(looked_at[-1]))
    curve = recall_curve(ranks, int(looked_at[-1]))
    hits = 100.0 * (ranks[:, None] <= looked_at)
    of_ks = dict(zip(looked_at.tolist(), draws.means(hits, groups).T, strict=True))
    num_groups = len(np.unique(groups))
    numbers, intervals = {}, {}
    for place, drawn in of_ks.items():
        share = float(curve[place - 1])
        # among the whole gallery nothing is left to be missed
        intervals[place] = (100.0, 100.0)
        if place < num_gallery or share < 100.0:
            intervals[place] = drawn_share_interval(share, drawn, groups=num_groups, items=num)
        numbers[place] = Number(
            value=share, num=num, interval=intervals[place], chance=float(chance[place - 1])
        )
    table = {
        "num_queries": num,
        "num_gallery": num_gallery,
        "num_groups": num_groups,
        "recall": {str(place): numbers[place].table() for place in headline},
        "curve": {
            "k": points,
            "recall": [numbers[place].value for place in points],
            "low": [intervals[place][0] for place in points],
            "high": [intervals[place][1] for place in points],
            "chance": [numbers[place].chance for place in points],
        },
    }
    return table, np.stack([of_ks[place] for place in headline], axis=1)


def _described(built: BuiltIndex) -> dict[str, Any]:
    """Return what an approximate index is, what it finds, and how fast."""
    return {
        "kind": built.plan.kind,
        "factory": built.plan.factory,
        "parameters": dict(built.parameters),
        "warnings": list(built.warnings),
        **written(built.metrics),
    }


def _rank_numbers(direction: Direction, ranking: Ranking, draws: BootstrapDraws) -> dict[str, Any]:
    """Return precision and reciprocal, median and mean rank."""
    counts, num_gallery = direction.relevance.counts, direction.num_gallery
    chance = chance_of_ranks(counts, num_gallery=num_gallery)
    chance["mean_average_precision"] = chance_average_precision(counts, num_gallery=num_gallery)
    columns = {
        "mean_average_precision": 100.0 * ranking.precisions,
        "mean_reciprocal_rank": 100.0 / ranking.ranks,
        "mean_rank": ranking.ranks.astype(float),
    }
    values = {name: float(column.mean()) for name, column in columns.items()}
    drawn_means = draws.means(np.stack(list(columns.values()), axis=1), direction.groups)
    drawn = dict(zip(columns, drawn_means.T, strict=True))
    values["median_rank"] = float(np.median(ranking.ranks))
    drawn["median_rank"] = draws.medians(ranking.ranks, direction.groups)
    return {
        name: Number(
            value=values[name],
            num=len(ranking.ranks),
            interval=interval_of(drawn[name]),
            chance=chance[name],
            unit="" if name in {"median_rank", "mean_rank"} else "%",
        ).table()
        for name in values
    }


def _own_in_first(direction: Direction, ranking: Ranking, draws: BootstrapDraws) -> dict[str, Any]:
    """Return how often several right answers stand first, where queries have several.

    Source: LightCRL; lightweightCRL, commit e3421ad, image_retrieval/retrieval.py, the text
    retrieval. We differ: there image i is compared with the texts of image i // 5, by mistake.
    """
    counts = direction.relevance.counts
    most = min(FIRST, int(counts.max()))
    if most < 2:
        return {}
    # an image with fewer texts cannot have as many in front: the share counts it as a miss
    least = np.arange(1, most + 1)
    hits = 100.0 * (ranking.in_first[:, None] >= least)
    drawn = draws.means(hits, direction.groups).T
    num_groups, num = len(np.unique(direction.groups)), len(counts)
    return {
        f"own_in_first_{FIRST}": {
            str(j): Number(
                value=share,
                num=num,
                interval=drawn_share_interval(share, of_draws, groups=num_groups, items=num),
                chance=chance_in_first(
                    counts, num_gallery=direction.num_gallery, depth=FIRST, least=j
                ),
            ).table()
            for j, share, of_draws in zip(
                least.tolist(), hits.mean(axis=0).tolist(), drawn, strict=True
            )
        }
    }


def curve_points(k: int) -> list[int]:
    """Return the ranks of a curve up to `k`: each up to 100, then each hundredth, and `k`.

    The latter are those of LightCRL's figure (arXiv 2403.04650), which ends at 10,000.
    """
    hundreds = range(2 * _EVERY_RANK, k + 1, _EVERY_RANK)
    return sorted({*range(1, min(k, _EVERY_RANK) + 1), *hundreds, k})


def headline_recalls(embeddings: PairedEmbeddings) -> dict[str, Any]:
    """Return R@1, R@5 and R@10 of both directions, in percent, and their sum; nothing else.

    It is what a training looks at after each epoch: bare numbers, without intervals.
    """
    by_direction: dict[str, Any] = {}
    # by the first ten where they tell: more is not shown, and this runs after every epoch
    for direction in both_directions(embeddings):
        headline = [k for k in HEADLINE if k <= direction.num_gallery]
        ranks = ranks_only(direction, headline[-1])
        curve = recall_curve(ranks, headline[-1])
        by_direction[direction.name] = {str(k): float(curve[k - 1]) for k in headline}
    total = sum(value for recalls in by_direction.values() for value in recalls.values())
    return {"recall_sum": total, **by_direction}


def worst_queries(
    direction: Direction, ranks: Int64[np.ndarray, " q"], *, most: int = 50, shown: int = 5
) -> list[dict[str, Any]]:
    """Return the queries of the highest ranks, worst first; none that found a right answer first.

    They are `most` at most, each with as many of the answers that came first as are `shown`.
    """
    # stable, so that of equal ranks the order of the dataset decides, on any machine
    order = np.argsort(-ranks, kind="stable")[:most]
    chosen = order[ranks[order] > 1]
    size = max(1, _BLOCK_SCORES // len(direction.gallery))
    failures = []
    for start in range(0, len(chosen), size):
        block = chosen[start : start + size]
        scores = direction.queries[block] @ direction.gallery.T
        failures += [
            _failure(direction, query, int(ranks[query]), line, shown)
            for query, line in zip(block.tolist(), scores, strict=True)
        ]
    return failures


def _failure(
    direction: Direction, query: int, place: int, scores: Float32[np.ndarray, " g"], shown: int
) -> dict[str, Any]:
    relevance = direction.relevance
    right = relevance.rows[relevance.offsets[query] : relevance.offsets[query + 1]]
    # one more than is shown, which may be the query itself
    count = min(shown + 1, len(scores))
    first = np.argpartition(-scores, count - 1)[:count]
    if direction.self_rows is not None:
        first = first[first != direction.self_rows[query]]

    def named(rows: Int64[np.ndarray, " _"]) -> list[dict[str, Any]]:
        in_order = rows[np.lexsort((rows, -scores[rows]))]
        return [
            {"id": direction.gallery_ids[row], "score": float(scores[row])}
            for row in in_order.tolist()
        ]

    return {
        "direction": direction.name,
        "query": direction.query_ids[query],
        "rank": place,
        "first": named(first)[:shown],
        "right": named(right),
    }
