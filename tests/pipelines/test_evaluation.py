"""Numbers of reports and their intervals."""

import math

import numpy as np
import pytest

from lightalign.pipelines.bootstrap import mean_interval, statistic_interval
from lightalign.pipelines.evaluation import Number, numbers_of, shown, split_hash


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


def test_a_number_is_shown_with_its_interval():
    assert shown(Number(value=41.25, num=80, interval=(39.0, 43.5)).table()) == "41.2 [39.0, 43.5]"
    assert shown(Number(value=0.861, num=80).table(), digits=2) == "0.86"


def test_the_same_ids_in_any_order_are_the_same_split():
    assert split_hash(["a", "b"]) == split_hash(["b", "a"]) != split_hash(["a", "c"])


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution_where_items_are_many():
    hits = np.repeat([0.0, 100.0], [700, 300])
    low, high = mean_interval(hits)
    apart = 1.96 * math.sqrt(30 * 70 / 1000)
    assert (low, high) == pytest.approx((30 - apart, 30 + apart), abs=0.4)


def test_the_interval_of_a_statistic_is_that_of_the_same_mean():
    values = np.random.default_rng(0).normal(5.0, 2.0, size=400)
    found = statistic_interval(lambda rows: float(values[rows].mean()), len(values))
    assert found == pytest.approx(mean_interval(values), abs=0.05)


def test_items_of_one_group_count_as_one():
    values = np.repeat(np.random.default_rng(0).normal(size=50), 20)
    groups = np.repeat(np.arange(50), 20)

    def mean(rows):
        return float(values[rows].mean())

    low, high = statistic_interval(mean, len(values), groups=groups)
    apart = 1.96 * values.std() / math.sqrt(50)
    assert high - low == pytest.approx(2 * apart, rel=0.15)


def test_draws_without_a_statistic_are_left_out():
    labels = np.array([0.0] * 3 + [1.0])

    def share(rows):
        return 0.5 if labels[rows].any() else math.nan

    assert statistic_interval(share, len(labels)) == (0.5, 0.5)
    assert all(map(math.isnan, statistic_interval(lambda rows: math.nan, 4)))
