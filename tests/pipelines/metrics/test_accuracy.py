"""Accuracies against hand-made cases and scikit-learn, and the intervals of repetitions."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from lightalign.pipelines.metrics.accuracy import accuracy_numbers, differences, repeated_numbers
from lightalign.pipelines.metrics.ranks import label_ranks


def test_a_wrong_class_of_the_same_score_counts_as_higher():
    """Row 1: the right class ties with one other; row 2: it is first; row 3: out of question."""
    scores = np.array([[2, 2, 1], [5, 0, 1], [-np.inf, -np.inf, 1]], dtype=np.float32)
    assert label_ranks(scores, np.array([0, 0, 0])).tolist() == [2, 1, 3]


def test_accuracies_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    labels = random.integers(7, size=200)
    scores = random.standard_normal((200, 7)).astype(np.float32)
    scores[np.arange(200), labels] += 1
    found = accuracy_numbers(label_ranks(scores, labels), labels, num_classes=7)
    for k in range(1, 6):
        expected = 100 * top_k_accuracy_score(labels, scores, k=k, labels=range(7))
        assert found[f"top_{k}"].value == pytest.approx(expected)
        assert found[f"top_{k}"].chance == pytest.approx(100 * k / 7)
    balanced = balanced_accuracy_score(labels, scores.argmax(axis=1))
    assert found["mean_per_class"].value == pytest.approx(100 * balanced)


def test_every_accuracy_has_interval_chance_and_count():
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    found = accuracy_numbers(np.array([1, 2, 1, 2, 1, 1, 2, 1]), labels, num_classes=2)
    assert set(found) == {"top_1", "mean_per_class"}  # top 2 of two classes is no question
    for number in found.values():
        low, high = number.interval
        assert low < number.value < high
        assert (number.chance, number.num) == (50.0, 8)


def test_a_class_without_evaluated_images_takes_no_part_in_the_mean_over_classes():
    """Class 0: 2 of 4 right; class 1: 1 of 1; class 2 has none: (50 + 100) / 2."""
    ranks, labels = np.array([1, 1, 2, 2, 1]), np.array([0, 0, 0, 0, 1])
    assert accuracy_numbers(ranks, labels, num_classes=3)["mean_per_class"].value == 75.0


def test_a_difference_on_the_same_images_is_surer_than_both_accuracies():
    ranks = np.where(np.arange(400) % 2 == 0, 1, 9)
    better = np.where(np.arange(400) % 20 == 1, 1, ranks)  # 20 images more
    found = differences(better, ranks, num_classes=10)["top_1"]
    assert found.value == pytest.approx(5.0)
    low, high = found.interval
    assert 0 < low < 5 < high < 8


def test_an_accuracy_without_a_miss_has_an_interval_that_reaches_below():
    """Of 16 right images Wilson's is n / (n + z^2) = 16 / 19.8415 and up, of one wrong 0 to z^2."""
    found = accuracy_numbers(np.ones(16, dtype=int), np.arange(16) % 2, num_classes=2)
    assert found["top_1"].interval == pytest.approx((100 * 16 / 19.8415, 100.0), abs=1e-3)
    wrong = accuracy_numbers(np.array([2]), np.array([0]), num_classes=2)
    assert wrong["top_1"].interval == pytest.approx((0.0, 100 * 3.8415 / 4.8415), abs=1e-3)


def test_no_accuracy_claims_no_width_where_all_is_right():
    ranks, labels = np.ones(12, dtype=int), np.arange(12) % 3
    numbers = [
        *accuracy_numbers(ranks, labels, num_classes=3).values(),
        *differences(ranks, ranks, num_classes=3).values(),
        repeated_numbers([ranks, ranks], num_classes=3)["top_1"],
    ]
    for number in numbers:
        low, high = number.interval
        assert low < high
        assert low <= number.value <= high


def test_one_repetition_has_no_deviation():
    found = repeated_numbers([np.array([1, 1, 2, 1])], num_classes=3)
    assert found["top_1"].value == 75.0
    assert "deviation_of_top_1" not in found
