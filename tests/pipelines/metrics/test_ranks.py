import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightalign.pipelines.metrics.ranks import (
    Relevance,
    average_precisions,
    exact_ranks,
    ranks_in_top,
    wrong_above,
)
from lightalign.pipelines.ranking.faiss_index import FlatIndex, search


def brute_force_ranks(scores, right_answers):
    """Sort-free definition in float64: wrong answers at least as high as the best right one."""
    ranks = []
    for line, right in zip(scores, right_answers, strict=True):
        best = max(line[row] for row in right)
        wrong = [value for row, value in enumerate(line) if row not in set(right)]
        ranks.append(1 + sum(value >= best for value in wrong))
    return ranks


def brute_force_precisions(scores, right_answers):
    """Walk down each line by score, of equal ones the wrong first; return mean precisions."""
    found = []
    for line, right in zip(scores, right_answers, strict=True):
        order = sorted(range(len(line)), key=lambda row: (-line[row], row in set(right)))
        hits = [place for place, row in enumerate(order, start=1) if row in set(right)]
        found.append(np.mean([number / place for number, place in enumerate(hits, start=1)]))
    return found


@st.composite
def cases(draw):
    """Small integer vectors, so that scores are exact in float32 and ties are common."""
    num_queries = draw(st.integers(1, 6))
    num_gallery = draw(st.integers(1, 9))
    numbers = st.integers(-2, 2).map(float)
    queries = draw(arrays(np.float32, (num_queries, 2), elements=numbers))
    gallery = draw(arrays(np.float32, (num_gallery, 2), elements=numbers))
    rows = st.lists(st.integers(0, num_gallery - 1), min_size=1, max_size=7, unique=True)
    right = draw(st.lists(rows, min_size=num_queries, max_size=num_queries))
    return queries, gallery, right, draw(st.integers(1, num_gallery))


@settings(deadline=None)
@given(cases())
def test_exact_ranks_equal_brute_force(case):
    queries, gallery, right, _ = case
    scores = queries.astype(np.float64) @ gallery.astype(np.float64).T
    assert exact_ranks(queries, gallery, Relevance.of(right)).tolist() == brute_force_ranks(
        scores, right
    )


@settings(deadline=None)
@given(cases())
def test_ranks_from_the_top_k_are_exact_or_left_open(case):
    queries, gallery, right, k = case
    scores, rows = search(FlatIndex(gallery), queries, k)
    found = ranks_in_top(scores, rows, Relevance.of(right), num_gallery=len(gallery))
    exact = brute_force_ranks(queries.astype(np.float64) @ gallery.astype(np.float64).T, right)
    assert all(ours in (0, true) for ours, true in zip(found, exact, strict=True))
    if k == len(gallery):
        assert found.tolist() == exact


@settings(deadline=None)
@given(cases())
def test_average_precisions_equal_brute_force_with_ties_against_us(case):
    queries, gallery, right, _ = case
    relevance = Relevance.of(right)
    expected = brute_force_precisions(queries.astype(np.float64) @ gallery.T, right)
    above = wrong_above(queries, gallery, relevance)
    np.testing.assert_allclose(average_precisions(above, relevance), expected)


def test_a_copy_of_the_right_answer_ties_with_it_whatever_rounding_does():
    """Products of one matrix differ in the last bit where equal rows lie far apart in it."""
    random = np.random.default_rng(0)
    gallery = random.standard_normal((1003, 61)).astype(np.float32)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    gallery[500:] = gallery[: 1003 - 500]
    right = random.permutation(500)[:200]
    queries = gallery[right] + 0.05 * random.standard_normal((200, 61)).astype(np.float32)
    relevance = Relevance.of([[row] for row in right.tolist()])
    assert (exact_ranks(queries, gallery, relevance) == 2).all()
    scores, rows = search(FlatIndex(gallery), queries, 5)
    assert (ranks_in_top(scores, rows, relevance, num_gallery=1003) == 2).all()


def test_many_right_answers_are_counted_as_few_are():
    """20 right answers a query are sorted, not compared one by one; ties of 41 rows are common."""
    random = np.random.default_rng(0)
    queries = random.integers(-3, 4, (3, 2)).astype(np.float32)
    gallery = random.integers(-3, 4, (41, 2)).astype(np.float32)
    right = [sorted(random.choice(41, size=20, replace=False).tolist()) for _ in range(3)]
    relevance = Relevance.of(right)
    above = wrong_above(queries, gallery, relevance)
    scores = queries.astype(np.float64) @ gallery.T
    np.testing.assert_allclose(
        average_precisions(above, relevance), brute_force_precisions(scores, right)
    )
    assert exact_ranks(queries, gallery, relevance).tolist() == brute_force_ranks(scores, right)


@st.composite
def text_cases(draw):
    """Return as many queries as gallery rows; row i is query i itself, and never right."""
    count = draw(st.integers(2, 8))
    vectors = arrays(np.float32, (count, 2), elements=st.integers(-2, 2).map(float))
    steps = st.sets(st.integers(1, count - 1), min_size=1)
    right = [[(query + step) % count for step in draw(steps)] for query in range(count)]
    return draw(vectors), draw(vectors), right, draw(st.integers(1, count))


@settings(deadline=None)
@given(text_cases())
def test_ranks_without_the_query_itself_equal_brute_force_on_the_rest(case):
    queries, gallery, right, k = case
    own = np.arange(len(queries))
    rest = queries.astype(np.float64) @ gallery.astype(np.float64).T
    rest[own, own] = -np.inf
    exact = brute_force_ranks(rest, right)
    assert exact_ranks(queries, gallery, Relevance.of(right), own).tolist() == exact
    scores, rows = search(FlatIndex(gallery), queries, k)
    found = ranks_in_top(scores, rows, Relevance.of(right), num_gallery=len(gallery), same_item=own)
    assert all(ours in (0, true) for ours, true in zip(found, exact, strict=True))


def test_a_tie_at_the_end_of_the_top_k_is_left_open():
    """Query (1, 0) scores 1 with rows 0, 1, 2: row 0 is right, and two wrong ones tie with it.

    The top 2 shows one of them at most, so only the exact count can say rank 3.
    """
    queries = np.array([[1.0, 0.0]], dtype=np.float32)
    gallery = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    relevance = Relevance.of([[0]])
    scores, rows = search(FlatIndex(gallery), queries, 2)
    assert ranks_in_top(scores, rows, relevance, num_gallery=4).tolist() == [0]
    assert exact_ranks(queries, gallery, relevance).tolist() == [3]
