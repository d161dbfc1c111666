"""Intervals of shares against hand-made cases, SciPy and simulated truth."""

import numpy as np
import pytest
from scipy import stats

from lightalign.pipelines.metrics.bootstrap import BootstrapDraws, mean_interval
from lightalign.pipelines.metrics.intervals import (
    class_mean_interval,
    deviation_interval,
    drawn_share_interval,
    paired_interval,
    repeated_interval,
    share_interval,
)

ALL_OF_16 = 100 * 16 / 19.8415  # lower end of 16 hits of 16: n / (n + z^2)


def share_within(intervals, true):
    """Return how often an interval holds the true value."""
    return np.mean(
        [low <= value <= high for (low, high), value in zip(intervals, true, strict=True)]
    )


@pytest.mark.parametrize(("hits", "num"), [(0, 1), (1, 1), (3, 7), (16, 16), (0, 200), (999, 1000)])
def test_the_interval_of_a_share_is_that_of_scipy(hits, num):
    found = share_interval(np.arange(num) < hits)
    expected = stats.binomtest(hits, num).proportion_ci(method="wilson")
    assert found == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-9)
    assert found[0] <= 100 * hits / num <= found[1]


def test_intervals_of_shares_cover_the_true_value_in_93_to_97_percent_of_a_thousand_cases():
    cases = np.random.default_rng(1).random((1000, 200)) < 0.3
    assert 0.93 <= share_within(map(share_interval, cases), np.full(1000, 30.0)) <= 0.97


def test_intervals_of_shares_cover_those_of_few_items_where_drawing_again_does_not():
    """16 images of a class, of which any share from 80 to 100 % is right, in 2,000 cases."""
    random = np.random.default_rng(2)
    shares = random.uniform(0.8, 1.0, 2000)
    cases = random.random((2000, 16)) < shares[:, None]
    assert 0.93 <= share_within(map(share_interval, cases), 100 * shares) <= 0.97
    drawn_again = (mean_interval(100.0 * one, draws=400) for one in cases)
    assert share_within(drawn_again, 100 * shares) < 0.8


@pytest.mark.parametrize("true", [0.02, 0.05, 0.5, 0.9, 0.99])
def test_intervals_of_drawn_shares_cover_large_and_small_ones_as_well(true):
    """100 images with 3 captions that depend on one another, in 1,000 cases.

    The share of an image is of a beta distribution around the true one. The percentiles of the
    draws cover 89 % of cases and fewer where hits or misses are few: the control.
    """
    random = np.random.default_rng(6)
    of_image = random.beta(2 * true, 2 * (1 - true), size=(1000, 100, 1))
    hits = 100.0 * (random.random((1000, 100, 3)) < of_image).reshape(1000, 300)
    drawn = BootstrapDraws(100, draws=300).means(hits.T.copy(), np.repeat(np.arange(100), 3))
    found = [
        drawn_share_interval(share, own, groups=100, items=300)
        for share, own in zip(hits.mean(axis=1), drawn.T, strict=True)
    ]
    assert 0.93 <= share_within(found, np.full(1000, 100 * true)) <= 0.97
    if true in {0.02, 0.99}:
        low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
        assert np.mean((low <= 100 * true) & (100 * true <= high)) < 0.91


def test_draws_that_do_not_differ_count_the_groups():
    found = drawn_share_interval(100.0, np.full(50, 100.0), groups=16, items=80)
    assert found == pytest.approx((ALL_OF_16, 100.0), abs=1e-3)


def test_the_mean_over_classes_without_a_miss_has_an_interval_that_reaches_below():
    """Two classes of 16: the squares of both distances add up, and the mean halves their root."""
    right = np.ones(16, dtype=bool)
    low, high = class_mean_interval([right, right])
    assert low == pytest.approx(100 - np.sqrt(2) * (100 - ALL_OF_16) / 2, abs=1e-3)
    assert high == 100.0
    assert class_mean_interval([right]) == pytest.approx(share_interval(right))


def test_intervals_of_the_mean_over_classes_cover_it_in_93_to_97_percent_of_a_thousand_cases():
    """Ten classes of 8 to 80 images and of 5 to 95 % right: the mean of the shares is 50 %."""
    random = np.random.default_rng(3)
    sizes = np.linspace(8, 80, 10).astype(int)
    shares = np.linspace(0.05, 0.95, 10)
    cases = [
        [random.random(size) < share for size, share in zip(sizes, shares, strict=True)]
        for _ in range(1000)
    ]
    assert 0.93 <= share_within(map(class_mean_interval, cases), np.full(1000, 50.0)) <= 0.97


def test_the_interval_of_a_difference_counts_what_only_one_of_both_hits():
    """98 items, 9 hit by the first alone, 4 by the second: a = 0.1, b = 0.05, d = 0.05, z 1.96."""
    hits, others = np.zeros(98, dtype=bool), np.zeros(98, dtype=bool)
    hits[:9], others[9:13] = True, True
    hits[50:80] = others[50:80] = True
    half = 1.96 * np.sqrt((0.15 - 0.05**2) / 100)
    expected = (100 * (0.05 - half), 100 * (0.05 + half))
    assert paired_interval(hits, others) == pytest.approx(expected, abs=1e-3)


def test_intervals_of_differences_cover_the_true_one_in_93_to_97_percent_of_a_thousand_cases():
    """Of 500 images the first hits 60 %, the second 9 of 10 of those and 1 of 10 of the others."""
    random = np.random.default_rng(4)
    hits = random.random((1000, 500)) < 0.6
    others = random.random((1000, 500)) < np.where(hits, 0.9, 0.1)
    found = (paired_interval(*both) for both in zip(hits, others, strict=True))
    assert 0.93 <= share_within(found, np.full(1000, 100 * (0.6 - 0.58))) <= 0.97


@pytest.mark.parametrize("num", [1, 2, 40])
def test_a_difference_lies_within_its_interval_however_few_items_there_are(num):
    ones, zeros = np.ones(num), np.zeros(num)
    for hits, others, value in ((ones, zeros, 100), (zeros, ones, -100), (ones, ones, 0)):
        low, high = paired_interval(hits, others)
        assert -100 <= low <= value <= high <= 100
        assert low < high


def test_the_interval_of_repetitions_covers_the_true_mean():
    """True accuracy 70 %, the draws of shots add 4 points of deviation, 5 of them, 500 images.

    It may cover more than 97 %: both parts are as wide as they would be alone.
    """
    random = np.random.default_rng(1)
    intervals = []
    for _ in range(400):
        of_seed, of_image = random.normal(0, 0.04, 5), random.normal(0, 0.1, 500)
        hits = random.random((5, 500)) < (0.7 + of_seed[:, None] + of_image)
        intervals.append(repeated_interval(hits.astype(float)))
    assert 0.93 <= share_within(intervals, np.full(400, 70.0)) <= 0.99


@pytest.mark.parametrize("hits", [[1], [0], [1, 0, 1], [1, 1, 1, 1]])
def test_one_repetition_has_the_interval_of_a_share(hits):
    found = repeated_interval(np.array([hits], dtype=float))
    assert found == pytest.approx(share_interval(np.array(hits)))


def test_repetitions_that_agree_on_every_item_count_it_once():
    hits = np.array([1.0, 1.0, 0.0, 1.0])
    assert repeated_interval(np.stack([hits, hits, hits])) == pytest.approx(share_interval(hits))


def test_repetitions_in_which_every_item_is_hit_as_often_count_each_time():
    """Two seeds, each right about the other half: no seed and no item is better than another."""
    hits = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    assert repeated_interval(hits) == pytest.approx(share_interval(np.arange(8) % 2))


def test_the_interval_of_the_deviation_is_that_of_chi_squared():
    means = np.array([50.0, 52.0, 54.0])
    low, high = deviation_interval(means)  # s = 2, S - 1 = 2: chi-squared is exponential
    assert low == pytest.approx(2 * np.sqrt(2 / (-2 * np.log(0.025))))
    assert high == pytest.approx(2 * np.sqrt(2 / stats.expon.ppf(0.025, scale=2)))
