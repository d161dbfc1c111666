"""Numbers of reports and their intervals."""

import math

import numpy as np
import pytest

from lightalign.pipelines.metrics.bootstrap import BootstrapDraws, interval_of, mean_interval
from lightalign.pipelines.metrics.intervals import drawn_share_interval
from lightalign.pipelines.metrics.number import (
    Number,
    cells_of,
    numbers_of,
    shown,
    shown_chance,
    split_hash,
)


def test_a_number_is_written_with_all_that_it_rests_on_and_nothing_that_is_not_there():
    full = Number(value=41.25, num=80, interval=(39.0, 43.5), chance=0.1)
    assert full.table() == {
        "value": 41.25,
        "interval": [39.0, 43.5],
        "chance": 0.1,
        "num": 80,
        "unit": "%",
    }
    assert Number(value=3.0, num=2, unit="").table() == {"value": 3.0, "num": 2, "unit": ""}


def test_every_number_of_a_report_is_found_with_its_names():
    one, other = (Number(value=value, num=1).table() for value in (1.0, 2.0))
    metrics = {"a": {"recall": {"1": one}, "num_queries": 5}, "b": other}
    assert list(numbers_of(metrics)) == [(("a", "recall", "1"), one), (("b",), other)]


def test_what_stands_beside_numbers_is_found_with_its_names():
    one = Number(value=1.0, num=1).table()
    metrics = {
        "text": {"fixed": {"threshold": 0.5, "accuracy": one}, "curve": {"k": [1, 2]}},
        "embedding": {"shots_1": {"chosen_C": [0.1, 0.001, 0.1]}, "shots_2": {"chosen_C": [1.0]}},
    }
    assert list(cells_of(metrics)) == [
        (("text", "fixed", "threshold"), {"value": 0.5}),
        (("text", "fixed", "accuracy"), one),
        (("embedding", "shots_1", "chosen_C"), {"value": "0.001 to 0.1"}),
        (("embedding", "shots_2", "chosen_C"), {"value": 1.0}),
    ]
    assert shown({"value": 0.91234}) == "0.9123"  # of two thresholds alike both digits that differ


def test_a_number_is_shown_with_its_interval():
    assert shown(Number(value=41.25, num=80, interval=(39.0, 43.5)).table()) == "41.2 [39.0, 43.5]"
    assert shown(Number(value=0.861, num=80).table(), digits=2) == "0.86"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (100.0, "100"),
        (99.96, "100"),
        (62.5, "62.5"),
        (2500.5, "2,500"),
        (1e6, "1,000,000"),
        (0.02, "0.02"),
        (1.234e-6, "0.00000123"),
        (0.0, "0"),
    ],
)
def test_a_chance_level_has_no_exponent(value, text):
    assert shown_chance(value) == text


def test_the_same_ids_in_any_order_are_the_same_split():
    assert split_hash(["a", "b"]) == split_hash(["b", "a"]) != split_hash(["a", "c"])


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution_where_items_are_many():
    hits = np.repeat([0.0, 100.0], [700, 300])
    low, high = mean_interval(hits)
    apart = 1.96 * math.sqrt(30 * 70 / 1000)
    assert (low, high) == pytest.approx((30 - apart, 30 + apart), abs=0.4)


def test_items_of_one_group_count_as_one():
    values = np.repeat(np.random.default_rng(0).normal(size=50), 20)
    draws = BootstrapDraws(50).means(values[:, None], np.repeat(np.arange(50), 20))
    low, high = interval_of(draws[:, 0])
    apart = 1.96 * values.std() / math.sqrt(50)
    assert high - low == pytest.approx(2 * apart, rel=0.15)


def test_draws_that_are_no_number_are_left_out():
    assert interval_of(np.array([0.5, math.nan, 0.5])) == (0.5, 0.5)
    assert all(map(math.isnan, interval_of(np.array([math.nan, math.nan]))))


def test_draws_of_single_items_give_the_interval_of_a_mean():
    values = np.random.default_rng(1).normal(5.0, 2.0, size=300)
    draws = BootstrapDraws(300).means(values[:, None], np.arange(300))
    assert interval_of(draws[:, 0]) == pytest.approx(mean_interval(values), abs=0.05)
    apart = 1.96 * values.std() / math.sqrt(300)
    assert interval_of(draws[:, 0]) == pytest.approx(
        (values.mean() - apart, values.mean() + apart), abs=0.04
    )


def test_drawn_means_and_medians_are_those_of_the_drawn_items():
    """Groups {0, 1} and {2}: of the draws 00, 01, 10 and 11 the items are 0101, 012 and 22."""
    values = np.array([1, 4, 10])
    draws = BootstrapDraws(2, draws=200)
    groups = np.array([0, 0, 1])
    means = draws.means(values[:, None].astype(float), groups)[:, 0]
    medians = draws.medians(values, groups)
    found = set(zip(means.tolist(), medians.tolist(), strict=True))
    assert found == {(2.5, 2.5), (5.0, 4.0), (10.0, 10.0)}


def test_the_draws_are_the_same_however_many_are_held_at_once(monkeypatch):
    values, groups = np.arange(12.0)[:, None], np.arange(12) // 3
    whole = BootstrapDraws(4).means(values, groups)
    monkeypatch.setattr("lightalign.pipelines.metrics.bootstrap._BLOCK", 28)
    np.testing.assert_array_equal(BootstrapDraws(4).means(values, groups), whole)


def test_intervals_cover_the_true_value_in_93_to_97_percent_of_a_thousand_cases():
    """Each case has 100 images with 3 captions that depend on one another, and ranks by a coin.

    An image is easy in 2 cases of 5: its captions have rank 1 with probability 0.9, else 0.2, and
    rank 4 where not. So R@1 is 0.4 * 0.9 + 0.6 * 0.2 = 48 %, and the reciprocal rank is
    0.48 + 0.52 / 4 = 0.61. Drawn one by one, the captions of an image would make the interval too
    narrow: that it would then cover less is the control.
    """
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), 3)
    grouped, single = BootstrapDraws(100), BootstrapDraws(300)
    cases = 1000
    easy = np.repeat(random.random((100, cases)) < 0.4, 3, axis=0)
    first = random.random((300, cases)) < np.where(easy, 0.9, 0.2)

    def covered(draws, values, of_item, true):
        low, high = np.percentile(draws.means(values, of_item), (2.5, 97.5), axis=0)
        return np.mean((low <= true) & (true <= high))

    def covered_by_scores(draws, values, of_item, true):
        drawn = draws.means(values, of_item)
        ends = [
            drawn_share_interval(share, own, groups=100, items=300)
            for share, own in zip(values.mean(axis=0), drawn.T, strict=True)
        ]
        return np.mean([low <= true <= high for low, high in ends])

    recalls, reciprocal = np.where(first, 100.0, 0.0), np.where(first, 1.0, 0.25)
    assert 0.93 <= covered(grouped, recalls, groups, 48.0) <= 0.97
    assert 0.93 <= covered_by_scores(grouped, recalls, groups, 48.0) <= 0.97
    assert 0.93 <= covered(grouped, reciprocal, groups, 0.61) <= 0.97
    assert covered(single, recalls, np.arange(300), 48.0) < 0.93


def test_intervals_of_a_mean_cover_the_true_value_in_93_to_97_percent_of_a_thousand_cases():
    """Recalls of 200 queries with a true R@1 of 30 %: 1,000 cases, each with its own draws."""
    random = np.random.default_rng(1)
    cases = np.where(random.random((1000, 200)) < 0.3, 100.0, 0.0)
    covered = [
        low <= 30.0 <= high
        for low, high in (
            mean_interval(one, draws=400, seed=case) for case, one in enumerate(cases)
        )
    ]
    assert 0.93 <= np.mean(covered) <= 0.97
