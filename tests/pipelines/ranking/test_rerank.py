import numpy as np
import pytest

from lightalign.featcache.errors import DivergedError
from lightalign.pipelines.ranking.faiss_index import FlatIndex, search
from lightalign.pipelines.ranking.rerank import Reranker, rerank


class Oracle(Reranker):
    """Know which item is right for each query."""

    def __init__(self, right):
        self.right = right

    def score(self, queries, gallery):
        return (self.right[queries] == gallery).astype(np.float32)


class Cosines(Reranker):
    """Judge as the first search did."""

    def __init__(self, queries, gallery):
        self.queries, self.gallery = queries, gallery

    def score(self, queries, gallery):
        return np.einsum("pe,pe->p", self.queries[queries], self.gallery[gallery])


class Indifferent(Reranker):
    def score(self, queries, gallery):
        return np.zeros(len(queries), dtype=np.float32)


class Broken(Reranker):
    def score(self, queries, gallery):
        return np.where(queries == 1, np.nan, 0).astype(np.float32)


@pytest.fixture
def searched():
    """Return queries that are noisy copies of items, the gallery, and the first eight answers."""
    random = np.random.default_rng(0)
    gallery = random.standard_normal((60, 8)).astype(np.float32)
    right = random.integers(60, size=50)
    queries = gallery[right] + random.standard_normal((50, 8)).astype(np.float32) * 2
    return queries, gallery, right, search(FlatIndex(gallery), queries, 8)


def test_with_an_oracle_the_first_answer_is_right_where_it_was_among_the_first_k(searched):
    _, _, right, (_, rows) = searched
    among_k = (rows == right[:, None]).any(axis=1)
    at_one = rows[:, 0] == right
    assert 0 < at_one.mean() < among_k.mean() < 1
    _, again = rerank(Oracle(right), rows)
    assert np.array_equal(again[:, 0] == right, among_k)
    assert np.array_equal(np.sort(again, axis=1), np.sort(rows, axis=1))


def test_a_judge_that_agrees_with_the_search_changes_nothing(searched):
    queries, gallery, _, (scores, rows) = searched
    found, again = rerank(Cosines(queries, gallery), rows)
    assert np.array_equal(again, rows)
    np.testing.assert_allclose(found, scores, rtol=1e-5)


def test_what_is_judged_equal_stays_in_order(searched):
    _, _, _, (_, rows) = searched
    assert np.array_equal(rerank(Indifferent(), rows)[1], rows)


def test_an_answer_that_is_missing_is_not_judged_and_stays_last():
    rows = np.array([[4, 2, -1], [-1, -1, -1]])
    scores, again = rerank(Oracle(np.array([2, 0])), rows)
    assert again.tolist() == [[2, 4, -1], [-1, -1, -1]]
    assert scores.tolist() == [[1, 0, -np.inf], [-np.inf] * 3]


def test_a_score_that_is_no_number_is_refused_with_its_query():
    with pytest.raises(DivergedError, match="score of query 1 is not finite"):
        rerank(Broken(), np.array([[0, 1], [0, 1]]))
