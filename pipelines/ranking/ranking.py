"""Rank a gallery for each query, and count where its relevant items stand.

Axis names: `q` queries, `g` gallery rows, `embed` features of an embedding.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, Int64

from ..metrics.ranks import (
    Relevance,
    average_precisions,
    best_ranks,
    exact_ranks,
    ranks_in_top,
    right_in_first,
    wrong_above,
)
from .embeddings import PairedEmbeddings
from .faiss_index import AnyIndex, FlatIndex, search
from .rerank import Reranker, rerank

FIRST = 5  # answers among which right ones are counted: an image of Flickr or COCO has as many
_BLOCK_HITS = 2**21  # hits held at once: 24 MiB of scores and row numbers


@dataclass(frozen=True)
class Direction:
    """One direction of a retrieval: queries, gallery, and what is relevant.

    Attributes:
        name: Such as `text_to_image`.
        queries: Vector of each query; its inner products with the gallery are the scores.
        gallery: Vectors that are searched.
        relevance: Right gallery rows of each query, at least one.
        query_ids: Id of each query.
        gallery_ids: Id of each gallery row.
        groups: Group of each query: an image with all its texts is one.
        self_rows: Gallery row that is the query itself, neither right nor wrong; or None for none.
    """

    name: str
    queries: Float32[np.ndarray, "q embed"]
    gallery: Float32[np.ndarray, "g embed"]
    relevance: Relevance
    query_ids: Sequence[str]
    gallery_ids: Sequence[str]
    groups: Int64[np.ndarray, " q"]
    self_rows: Int64[np.ndarray, " q"] | None = None

    def self_rows_of(self, queries: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"] | None:
        """Return the gallery rows that are these queries themselves, or None for none."""
        return None if self.self_rows is None else self.self_rows[queries]

    @property
    def num_gallery(self) -> int:
        """Return the number of gallery rows that a query may find."""
        return len(self.gallery) - (self.self_rows is not None)


@dataclass(frozen=True)
class Ranking:
    """Ranks of the relevant items of each query.

    Attributes:
        ranks: Rank of the best right answer, 1 is perfect.
        precisions: Average precision, between 0 and 1.
        in_first: Right answers among the first `FIRST`.
    """

    ranks: Int64[np.ndarray, " q"]
    precisions: Float[np.ndarray, " q"]
    in_first: Int64[np.ndarray, " q"]


def both_directions(embeddings: PairedEmbeddings) -> tuple[Direction, Direction]:
    """Return the retrieval from the second side to the first, and back.

    Rows of one side with the same id are one item: the first of them stays, with the right answers
    of all. Between two encoders of one modality row i of the gallery is query i itself; one that
    nothing else belongs to, as a text without any other of its image, is no query.
    """
    unique = without_repeats(embeddings)
    vectors = unique.second, unique.first
    # not a number compares as false with everything, and would rank first
    assert all(np.isfinite(rows).all() for rows in vectors)
    names = [side.value for side in reversed(unique.sides)]
    ids = unique.second_ids, unique.first_ids
    relevances = unique.firsts_of_second, unique.seconds_of_first
    groups = _groups(unique)[::-1]
    directions = []
    for asking, asked in ((0, 1), (1, 0)):
        rows = np.flatnonzero(relevances[asking].counts)
        queries, query_ids = vectors[asking], ids[asking]
        assert len(rows) > 0, "something has a right answer"
        assert unique.same_items or len(rows) == len(queries), "every query has a right answer"
        if len(rows) < len(queries):
            queries, query_ids = queries[rows], tuple(query_ids[row] for row in rows.tolist())
        directions.append(
            Direction(
                name=f"{names[asking]}_to_{names[asked]}",
                queries=queries,
                gallery=vectors[asked],
                relevance=relevances[asking].take(rows),
                query_ids=query_ids,
                gallery_ids=ids[asked],
                groups=groups[asking][rows],
                self_rows=rows if unique.same_items else None,
            )
        )
    back, forth = directions
    return back, forth


def rank(direction: Direction) -> Ranking:
    """Return ranks and precisions, by counting the wrong answers above each right one.

    One pass over all scores tells everything; an index would tell the first answers only, in the
    same time.
    """
    above = wrong_above(
        direction.queries, direction.gallery, direction.relevance, direction.self_rows
    )
    return Ranking(
        best_ranks(above, direction.relevance),
        average_precisions(above, direction.relevance),
        right_in_first(above, direction.relevance, FIRST),
    )


def ranks_only(direction: Direction, depth: int) -> Int64[np.ndarray, " q"]:
    """Return the rank of each query; from the top `depth` where that tells, else by counting."""
    depth = min(depth, len(direction.gallery))
    ranks = _look_up(FlatIndex(direction.gallery), direction, depth)
    beyond = np.flatnonzero(ranks == 0)
    # few, once an adapter is trained: their ranks take a pass over all scores
    if len(beyond) and depth < len(direction.gallery):
        ranks[beyond] = exact_ranks(
            direction.queries[beyond],
            direction.gallery,
            direction.relevance.take(beyond),
            direction.self_rows_of(beyond),
        )
    return ranks


def ranks_by(
    index: AnyIndex, direction: Direction, depth: int, reranker: Reranker | None = None
) -> Int64[np.ndarray, " q"]:
    """Return the rank of each query among the first answers of an index, which may miss right ones.

    A right answer that is not among the first `depth` has the rank after the last: one more than
    the gallery. A reranker puts these answers into a new order; its rows are those of the
    direction.
    """
    more = (direction.self_rows is not None) + (
        reranker is None
    )  # by one more a tie at the end is seen
    ranks = _look_up(index, direction, min(depth + more, len(direction.gallery)), reranker)
    return np.where(ranks == 0, direction.num_gallery + 1, ranks)


def _look_up(
    index: AnyIndex, direction: Direction, depth: int, reranker: Reranker | None = None
) -> Int64[np.ndarray, " q"]:
    """Return `ranks_in_top` of the first `depth` answers, block by block: memory is bounded."""
    num_gallery = len(direction.gallery)
    size = max(1, _BLOCK_HITS // depth)
    ranks = np.empty(len(direction.queries), dtype=np.int64)
    for start in range(0, len(ranks), size):
        block = np.arange(start, min(start + size, len(ranks)))
        scores, rows = search(index, direction.queries[block], depth)
        if reranker is not None:
            scores, rows = rerank(reranker, rows, first=start)
        # FAISS fills up with -1, by which NumPy would mean the last row
        scores[rows < 0] = -np.inf
        ranks[block] = ranks_in_top(
            scores,
            np.where(rows < 0, num_gallery, rows),
            direction.relevance.take(block),
            num_gallery=depth if reranker is not None else num_gallery,
            same_item=direction.self_rows_of(block),
        )
    return ranks


def without_repeats(embeddings: PairedEmbeddings) -> PairedEmbeddings:
    """Return the same with every id once a side; right answers of equal ids are put together."""
    unique = [_first_rows(ids) for ids in (embeddings.first_ids, embeddings.second_ids)]
    (first, first_place), (second, second_place) = unique
    if len(first) == len(embeddings.first_ids) and len(second) == len(embeddings.second_ids):
        return embeddings
    return replace(
        embeddings,
        first=embeddings.first[first],
        second=embeddings.second[second],
        first_ids=tuple(embeddings.first_ids[row] for row in first.tolist()),
        second_ids=tuple(embeddings.second_ids[row] for row in second.tolist()),
        seconds_of_first=_merged(embeddings.seconds_of_first, first_place, second_place),
        firsts_of_second=_merged(embeddings.firsts_of_second, second_place, first_place),
        anchors=None,
    )


def _first_rows(
    ids: Sequence[str],
) -> tuple[Int64[np.ndarray, " distinct"], Int64[np.ndarray, " n"]]:
    """Return the first row of each id, and for every row the place of its id among them."""
    place: dict[str, int] = {}
    places = [place.setdefault(item, len(place)) for item in ids]
    firsts = np.zeros(len(place), dtype=np.int64)
    # from the last row on, so that the first of an id is what stays
    for row in range(len(places) - 1, -1, -1):
        firsts[places[row]] = row
    return firsts, np.array(places, dtype=np.int64)


def _merged(
    relevance: Relevance, queries: Int64[np.ndarray, " q"], rows: Int64[np.ndarray, " g"]
) -> Relevance:
    merged: dict[int, set[int]] = defaultdict(set)
    for query, place in enumerate(queries.tolist()):
        span = relevance.rows[relevance.offsets[query] : relevance.offsets[query + 1]]
        merged[place] |= set(rows[span].tolist())
    return Relevance.of([sorted(merged[place]) for place in range(len(merged))])


def _groups(
    embeddings: PairedEmbeddings,
) -> tuple[Int64[np.ndarray, " first"], Int64[np.ndarray, " second"]]:
    """Number each first row with all that belongs to it, directly or through others, as a group."""
    relevance = embeddings.seconds_of_first
    firsts = np.repeat(np.arange(len(relevance)), relevance.counts)
    seconds = relevance.rows
    if embeddings.same_items:  # row i of both sides is the same item
        firsts = np.concatenate([firsts, np.arange(len(relevance))])
        seconds = np.concatenate([seconds, np.arange(len(relevance))])
    of_first = np.arange(len(relevance))
    of_second = np.full(len(embeddings.second), len(relevance))
    while True:
        before = of_first.copy()
        np.minimum.at(of_second, seconds, of_first[firsts])
        np.minimum.at(of_first, firsts, of_second[seconds])
        # the smallest number of a group spreads by one link a round, until nothing moves
        if (before == of_first).all():
            break
    _, numbers = np.unique(np.concatenate([of_first, of_second]), return_inverse=True)
    return numbers[: len(of_first)], numbers[len(of_first) :]
