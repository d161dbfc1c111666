"""Agreement with people's judgement: by hand, and as scikit-learn and SciPy have it."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from lightalign.pipelines.metrics.bootstrap import interval_of, mean_interval, weighted_draws
from lightalign.pipelines.metrics.graded_pairs import (
    ValueOrder,
    at_threshold,
    auroc,
    average_precision,
    fit_threshold,
    pearson,
    spearman,
    tolerance_curve,
)


def once(num):
    return np.ones((1, num), dtype=np.int64)


def tied(seed, num=200):
    """Return scores with many ties, and labels that lean to them."""
    random = np.random.default_rng(seed)
    scores = random.integers(0, 12, num) / 12
    labels = scores + random.normal(0, 0.4, num) > 0.5
    return scores, labels


def test_auroc_counts_the_pairs_in_the_right_order_and_half_a_tie():
    """Positives 0.9 and 0.4, negatives 0.4 and 0.1: three pairs are right, 0.4 is half."""
    scores = np.array([0.9, 0.4, 0.4, 0.1])
    labels = np.array([True, True, False, False])
    assert auroc(ValueOrder(scores), labels, once(4)) == pytest.approx([3.5 / 4])


def test_average_precision_adds_precision_where_recall_grows():
    """In order +, -, +: recall 1/2 at precision 1, and 1/2 more at precision 2/3."""
    found = average_precision(
        ValueOrder(np.array([0.9, 0.8, 0.7])), np.array([True, False, True]), once(3)
    )
    assert found == pytest.approx([0.5 * 1 + 0.5 * 2 / 3])


@pytest.mark.parametrize("seed", range(5))
def test_ranking_metrics_equal_those_of_scikit_learn_with_ties(seed):
    scores, labels = tied(seed)
    ranking, ones = ValueOrder(scores), once(len(scores))
    assert auroc(ranking, labels, ones) == pytest.approx([metrics.roc_auc_score(labels, scores)])
    expected = metrics.average_precision_score(labels, scores)
    assert average_precision(ranking, labels, ones) == pytest.approx([expected])


@pytest.mark.parametrize("seed", range(5))
def test_correlations_equal_those_of_scipy_with_ties(seed):
    scores, _ = tied(seed)
    grades = np.round(5 * scores + np.random.default_rng(seed).normal(size=len(scores)))
    ones = once(len(scores))
    found = spearman(ValueOrder(scores), ValueOrder(grades), ones)
    assert found == pytest.approx([stats.spearmanr(scores, grades).statistic])
    assert pearson(scores, grades, ones) == pytest.approx(
        [stats.pearsonr(scores, grades).statistic]
    )


def test_weights_are_repeated_pairs():
    scores, labels = tied(0, 60)
    grades = np.random.default_rng(1).integers(0, 6, 60).astype(float)
    rows = np.random.default_rng(2).integers(60, size=(3, 60))
    weights = np.stack([np.bincount(some, minlength=60) for some in rows])
    by_weight = [
        auroc(ValueOrder(scores), labels, weights),
        average_precision(ValueOrder(scores), labels, weights),
        spearman(ValueOrder(scores), ValueOrder(grades), weights),
        pearson(scores, grades, weights),
    ]
    by_row = [
        [metrics.roc_auc_score(labels[some], scores[some]) for some in rows],
        [metrics.average_precision_score(labels[some], scores[some]) for some in rows],
        [stats.spearmanr(scores[some], grades[some]).statistic for some in rows],
        [stats.pearsonr(scores[some], grades[some]).statistic for some in rows],
    ]
    np.testing.assert_allclose(by_weight, by_row, rtol=1e-10)


def test_what_is_the_same_for_all_has_no_correlation_and_one_class_no_auroc():
    same, grades = np.full(4, 0.3), np.arange(4.0)
    assert np.isnan(pearson(same, grades, once(4))).all()
    assert np.isnan(spearman(ValueOrder(same), ValueOrder(grades), once(4))).all()
    assert np.isnan(auroc(ValueOrder(grades), np.ones(4, dtype=bool), once(4))).all()


def test_each_class_at_a_threshold_by_hand():
    """Called 1, 1, 1, 0, 0 for 1, 1, 0, 0, 1: of class 1 two of three called and of three there."""
    predicted = np.array([True, True, True, False, False])
    labels = np.array([True, True, False, False, True])
    found = {name: value[0] for name, value in at_threshold(predicted, labels, once(5)).items()}
    assert found == pytest.approx(
        {
            "accuracy": 3 / 5,
            "precision_0": 1 / 2,
            "recall_0": 1 / 2,
            "f1_0": 1 / 2,
            "precision_1": 2 / 3,
            "recall_1": 2 / 3,
            "f1_1": 2 / 3,
        }
    )


@pytest.mark.parametrize("threshold", [-1.0, 0.3, 0.5, 2.0])
def test_each_class_at_a_threshold_is_as_scikit_learn_has_it(threshold):
    scores, labels = tied(3)
    predicted = scores >= threshold
    found = at_threshold(predicted, labels, once(len(scores)))
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=[0, 1], zero_division=0
    )
    expected = {"accuracy": metrics.accuracy_score(labels, predicted)}
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        expected |= {f"{name}_{label}": values[label] for label in (0, 1)}
    assert {name: value[0] for name, value in found.items()} == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_is_more_accurate_than_the_fitted_one(seed):
    scores, labels = tied(seed)
    fitted = fit_threshold(scores, labels)
    best = max(np.mean((scores >= one) == labels) for one in np.linspace(-0.1, 1.1, 1201))
    assert np.mean((scores >= fitted) == labels) == best


def test_a_fitted_threshold_lies_between_two_scores_or_beyond_them():
    scores = np.array([0.1, 0.2, 0.6, 0.9])
    assert fit_threshold(scores, np.array([False, False, True, True])) == pytest.approx(0.4)
    assert fit_threshold(scores, np.ones(4, dtype=bool)) == 0.1
    assert 0.9 < fit_threshold(scores, np.zeros(4, dtype=bool)) < 0.9001


def test_the_tolerance_curve_by_hand():
    """Grades 0 and 0.2 are of the first bin, off by 0.1 and 0.3; 0.6 of the third, off by 0.2."""
    found = tolerance_curve(
        np.array([0.1, 0.5, 0.8]), np.array([0.0, 0.2, 0.6]), np.array([0.0, 0.15, 0.25, 1.0])
    )
    assert {name: num for name, (num, _) in found.items()} == {"0-0.2": 2, "0.4-0.6": 1}
    assert found["0-0.2"][1].tolist() == [0, 50, 50, 100]
    assert found["0.4-0.6"][1].tolist() == [0, 0, 100, 100]


def test_a_grade_on_the_edge_of_a_bin_is_of_the_lower_one():
    """(3.4 - 1) / 4 is 0.6000000000000001 or so in floats, and still of 0.4-0.6."""
    grade = np.array([(3.4 - 1) / 4])
    assert list(tolerance_curve(grade, grade, np.array([0.0]))) == ["0.4-0.6"]


def test_intervals_of_weights_are_those_of_rows():
    values = np.random.default_rng(0).normal(size=300)
    found = weighted_draws(lambda weights: {"mean": weights @ values / 300}, np.arange(300))
    assert interval_of(found["mean"]) == pytest.approx(mean_interval(values))
    scores, labels = tied(1, 80)
    found = weighted_draws(
        lambda weights: {"area": auroc(ValueOrder(scores), labels, weights)},
        np.arange(80),
        draws=50,
    )
    random = np.random.default_rng(0)
    drawn = [random.integers(80, size=80) for _ in range(50)]
    areas = [metrics.roc_auc_score(labels[rows], scores[rows]) for rows in drawn]
    np.testing.assert_allclose(found["area"], areas)


@pytest.mark.slow
def test_intervals_of_pairs_that_share_texts_cover_the_true_correlation():
    """Sixty groups of five pairs, the true correlation 0.6: 1,000 cases.

    Half of the variance of both numbers of a pair is that of its group. Drawn one by one, the
    pairs would make the interval too narrow: that it would then cover less is the control. The ends
    of 200 draws, where a report has 1,000, are rougher, which costs about two points.
    """
    random = np.random.default_rng(5)
    groups = np.repeat(np.arange(60), 5)
    mixed = np.linalg.cholesky([[1.0, 0.6], [0.6, 1.0]])
    covered = {"groups": 0, "single": 0}
    for case in range(1000):
        own, of_group = (mixed @ random.normal(size=(2, num)) for num in (300, 60))
        one, other = (own + of_group[:, groups]) / np.sqrt(2)
        for name, drawn in (("groups", groups), ("single", np.arange(300))):
            if name == "single" and case >= 200:
                continue
            found = weighted_draws(
                lambda weights, one=one, other=other: {"r": pearson(one, other, weights)},
                drawn,
                draws=200,
            )
            low, high = interval_of(found["r"])
            covered[name] += low <= 0.6 <= high
    assert 0.91 <= covered["groups"] / 1000 <= 0.97
    assert covered["single"] / 200 < 0.9


def test_one_group_says_nothing_of_others():
    def statistics(weights):
        return {"ones": np.ones(len(weights))}

    assert weighted_draws(statistics, np.zeros(5, dtype=int)) == {}
