"""What one gets who answers at random."""

from itertools import combinations, permutations

import numpy as np
import pytest

from lightalign.pipelines.metrics.chance import (
    chance_average_precision,
    chance_curve,
    chance_in_first,
    chance_of_ranks,
)


def test_chance_is_the_hypergeometric_miss():
    """Gallery of 4. One right answer: R@2 = 2/4. Two right ones: 1 - (2/4)(1/3) = 5/6."""
    np.testing.assert_allclose(
        chance_curve(np.array([1, 2]), num_gallery=4, k=2),
        [100 * (1 / 4 + 2 / 4) / 2, 100 * (2 / 4 + 5 / 6) / 2],
    )


def test_chance_agrees_with_random_orders():
    random = np.random.default_rng(0)
    hits = np.zeros(5)
    for _ in range(4000):
        first = np.flatnonzero(random.permutation(7) < 3)[0]  # 3 of 7 are right
        hits[first:] += 1
    np.testing.assert_allclose(
        chance_curve(np.array([3]), num_gallery=7, k=5), 100 * hits / 4000, atol=3
    )


def test_chance_of_ranks_and_precision_is_that_of_all_orders():
    """Every order of a gallery of 5 for queries with 1 and with 2 right answers, one by one."""
    ranks, precisions = {1: [], 2: []}, {1: [], 2: []}
    for order in permutations(range(5)):
        for num in (1, 2):
            hits = sorted(place for place, row in enumerate(order, start=1) if row < num)
            ranks[num].append(hits[0])
            precisions[num].append(np.mean([n / p for n, p in enumerate(hits, start=1)]))
    counts = np.array([1, 2])
    found = chance_of_ranks(counts, num_gallery=5)
    both = np.array([ranks[1], ranks[2]])
    assert found["mean_rank"] == pytest.approx(both.mean())
    assert found["mean_reciprocal_rank"] == pytest.approx(100 * (1 / both).mean())
    assert found["median_rank"] == np.median(both)
    expected = 100 * np.mean([precisions[1], precisions[2]])
    assert chance_average_precision(counts, num_gallery=5) == pytest.approx(expected)
    assert chance_average_precision(np.array([1]), num_gallery=1) == 100.0


@pytest.mark.parametrize(
    ("counts", "num_gallery"), [([1], 48), ([1], 47), ([1], 1), ([2], 4), ([1, 3], 6), ([2, 2], 6)]
)
def test_chance_of_the_median_rank_is_the_median_over_all_choices_of_right_rows(
    counts, num_gallery
):
    """One right answer in 48 rows: the median of 1 to 48 is 24.5."""
    ranks = []
    for count in counts:
        best = [rows[0] + 1 for rows in combinations(range(num_gallery), count)]
        ranks += best * (60 // len(best) if len(counts) > 1 else 1)  # queries count alike
    chance = chance_of_ranks(np.array(counts), num_gallery=num_gallery)
    assert chance["median_rank"] == np.median(ranks)


def test_chance_of_several_own_among_the_first_is_that_of_all_orders():
    """Two right of four, three looked at: all four choices hold one at least, two hold both."""
    counts = np.array([2, 2])
    found = [chance_in_first(counts, num_gallery=4, depth=3, least=least) for least in (1, 2, 3)]
    assert found == pytest.approx([100.0, 50.0, 0.0])
    assert chance_in_first(counts, num_gallery=2, depth=5, least=2) == pytest.approx(100.0)
