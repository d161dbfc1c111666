"""Two stages by hand: images with a text each, and a judge whose scores are written down."""

import numpy as np
import pytest

from lightalign.featcache.errors import DivergedError
from lightalign.pipelines.metrics.ranks import Relevance
from lightalign.pipelines.ranking.embeddings import PairedEmbeddings
from lightalign.pipelines.ranking.ranking import both_directions
from lightalign.pipelines.ranking.recall import Retrieval
from lightalign.pipelines.ranking.rerank import Reranker
from lightalign.pipelines.ranking.two_stage import ITM, SUM, TwoStageRetrieval

NUM = 24


class Written(Reranker):
    """Judge by a table of all pairs, and remember what was asked for."""

    def __init__(self, scores):
        self.scores = scores.astype(np.float32)
        self.asked = []

    def score(self, queries, gallery):
        self.asked += list(zip(queries.tolist(), gallery.tolist(), strict=True))
        return self.scores[queries, gallery]


@pytest.fixture(scope="module")
def embeddings():
    """Return images and texts, a text an image, whose cosines are right in some cases."""
    random = np.random.default_rng(0)
    first = random.standard_normal((NUM, 8)).astype(np.float32)
    second = first + 2.5 * random.standard_normal((NUM, 8)).astype(np.float32)
    first, second = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (first, second))
    own = Relevance.of([[row] for row in range(NUM)])
    return PairedEmbeddings(
        first=first,
        second=second,
        first_ids=tuple(f"i{row}" for row in range(NUM)),
        second_ids=tuple(f"t{row}" for row in range(NUM)),
        seconds_of_first=own,
        firsts_of_second=own,
    )


@pytest.fixture(scope="module")
def table():
    """Return logit differences of all pairs, in which the right one is somewhat higher."""
    random = np.random.default_rng(1)
    return random.standard_normal((NUM, NUM)) + 1.5 * np.eye(NUM)


def measured(embeddings, table, *, k=10, scale=4.0):
    judge = Written(table)
    task = TwoStageRetrieval(k=k, scale=scale, reranker_of=lambda direction: judge)
    return task.run(embeddings)


def recalls_by_hand(direction, table, scale, k):
    """Return R@1, R@5 and R@10 of logit difference + scale x cosine in the first k, in float64."""
    cosines = direction.queries.astype(np.float64) @ direction.gallery.T.astype(np.float64)
    hits = {1: 0, 5: 0, 10: 0}
    for query in range(NUM):
        first = np.argsort(-cosines[query])[:k]
        scores = table[query, first] + scale * cosines[query, first]
        ordered = first[np.argsort(-scores)]
        place = np.flatnonzero(ordered == query)
        for depth in hits:
            hits[depth] += int(len(place) > 0 and place[0] < depth)
    return {str(depth): 100.0 * count / NUM for depth, count in hits.items()}


@pytest.mark.parametrize("k", [10, 15])
def test_recalls_are_those_of_numpy(embeddings, table, k):
    scale = 4.0
    found = measured(embeddings, table, k=k, scale=scale)
    totals = dict.fromkeys((ITM, SUM), 0.0)
    for direction in both_directions(embeddings):
        by_hand = {
            SUM: recalls_by_hand(direction, table, scale, k),
            # the cosine has no say in the order, but in what is judged
            ITM: _by_itm(direction, table, k),
        }
        for name, expected in by_hand.items():
            recall = found[name][direction.name]["recall"]
            assert {depth: recall[depth]["value"] for depth in expected} == pytest.approx(expected)
            totals[name] += sum(expected.values())
    cosine = Retrieval(k=k).run(embeddings)["recall_sum"]["value"]
    for name, total in totals.items():
        assert found[name]["recall_sum"]["value"] == pytest.approx(total)
        difference = found[name]["recall_sum_difference"]
        assert difference["value"] == pytest.approx(total - cosine)
        assert difference["interval"][0] <= difference["value"] <= difference["interval"][1]


def _by_itm(direction, table, k):
    cosines = direction.queries @ direction.gallery.T
    hits = {"1": 0, "5": 0, "10": 0}
    for query in range(NUM):
        first = np.argsort(-cosines[query])[:k]
        ordered = first[np.argsort(-table[query, first])]
        place = np.flatnonzero(ordered == query)
        for depth in hits:
            hits[depth] += int(len(place) > 0 and place[0] < int(depth))
    return {depth: 100.0 * count / NUM for depth, count in hits.items()}


def test_a_judge_that_says_nothing_leaves_the_sum_as_the_cosine_is_with_no_difference(embeddings):
    found = measured(embeddings, np.zeros((NUM, NUM)))[SUM]
    cosine = Retrieval(k=10).run(embeddings)
    for name in ("text_to_image", "image_to_text"):
        assert found[name]["recall"] == cosine[name]["recall"]
    assert found["recall_sum"] == cosine["recall_sum"]
    assert found["recall_sum_difference"]["value"] == 0
    assert found["recall_sum_difference"]["interval"] == [0, 0]  # paired: each draw has none


def test_a_judge_that_knows_all_reaches_the_ceiling_which_is_the_recall_at_k_of_the_cosine(
    embeddings,
):
    found = measured(embeddings, 100 * np.eye(NUM))
    cosine = Retrieval(k=10).run(embeddings)
    for order in (ITM, SUM):
        for name in ("text_to_image", "image_to_text"):
            ceiling = found[order][name]["ceiling"]
            assert ceiling == cosine[name]["recall"]["10"]
            assert ceiling["value"] < 100
            assert found[order][name]["recall"]["1"]["value"] == ceiling["value"]


def test_what_is_judged_equal_counts_against_the_system(embeddings):
    found = measured(embeddings, np.zeros((NUM, NUM)))[ITM]
    assert found["text_to_image"]["recall"]["1"]["value"] == 0
    assert found["text_to_image"]["recall"]["10"] == found["text_to_image"]["ceiling"]


def test_each_pair_of_the_first_k_is_judged_once(embeddings, table):
    judge = Written(table)
    TwoStageRetrieval(k=10, scale=1.0, reranker_of=lambda direction: judge).run(embeddings)
    assert len(judge.asked) == 2 * NUM * 10


def test_k_is_cut_at_a_small_gallery(embeddings, table):
    found = measured(embeddings, table, k=1000)
    assert found[ITM]["text_to_image"]["ceiling"]["value"] == 100


def test_a_score_that_is_no_number_is_refused(embeddings):
    with pytest.raises(DivergedError, match="score of query 0 is not finite"):
        measured(embeddings, np.full((NUM, NUM), np.nan))
