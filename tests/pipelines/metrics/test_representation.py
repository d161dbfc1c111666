"""How alike two encoders see the same items: by definition, by hand and by scikit-learn."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from lightalign.pipelines.metrics.representation import (
    RidgeMap,
    linear_cka,
    neighbours,
    ranks_of_own,
    shared_neighbours,
)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def cka_by_definition(first, second):
    """Return HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with H = 1 - 11^T / n, in float64."""
    num = len(first)
    centring = np.eye(num) - np.full((num, num), 1 / num)
    kernels = [centring @ side @ side.T @ centring for side in (first, second)]
    across, one, other = (np.trace(a @ b) for a, b in (kernels, [kernels[0]] * 2, [kernels[1]] * 2))
    return across / np.sqrt(one * other)


@pytest.mark.parametrize("widths", [(3, 5), (40, 7), (40, 60)])
def test_cka_is_what_its_definition_says_with_few_and_with_many_features(widths):
    first, second = (drawn(20, width, seed=width) for width in widths)
    expected = cka_by_definition(first.astype(np.float64), second.astype(np.float64))
    assert linear_cka(first, second).value == pytest.approx(expected, rel=1e-5)


def test_cka_is_one_for_a_turned_and_scaled_and_moved_copy():
    values = drawn(30, 4)
    turn, _ = np.linalg.qr(drawn(4, 4, seed=1))
    assert linear_cka(values, 3 * values @ turn + 5).value == pytest.approx(1, abs=1e-5)


def test_the_chance_of_cka_is_its_mean_over_all_orders():
    first, second = drawn(5, 3), drawn(5, 2, seed=1)
    found = [linear_cka(first, second[list(order)]).value for order in permutations(range(5))]
    assert linear_cka(first, second).chance == pytest.approx(np.mean(found), rel=1e-6)


def test_a_side_that_does_not_vary_has_no_cka():
    assert np.isnan(linear_cka(drawn(6, 2), np.ones((6, 3), np.float32)).value)


def test_shared_neighbours_by_hand():
    """Items on a circle at 0, 10, 30 and 90 degrees, and the same with the last two exchanged.

    The two nearest of item 0 are 1, 2 and then 1, 3: one of two is shared.
    """

    def at(degrees):
        radians = np.radians(degrees)
        return np.stack([np.cos(radians), np.sin(radians)], axis=1)

    first = neighbours(at([0, 10, 30, 90]), 2)
    second = neighbours(5 * at([0, 10, 90, 30]), 2)
    assert first.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert second.tolist() == [[1, 3], [0, 3], [3, 1], [1, 0]]
    assert shared_neighbours(first, second).tolist() == [50, 50, 50, 50]


def test_an_item_is_no_neighbour_of_itself_and_equal_ones_come_in_order():
    assert neighbours(np.ones((4, 2), np.float32), 2).tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]


@pytest.mark.parametrize("width", [3, 50])
def test_the_ridge_map_is_the_one_of_scikit_learn_with_the_least_error_of_its_own(width):
    """The error is t |Y - HY|^2 / (t - 1 - tr H)^2, from the hat matrix of each penalty in full."""
    train, held_out = drawn(30, width), drawn(8, width, seed=1)
    targets = train[:, :2] @ drawn(2, 4, seed=2) + 0.5 * drawn(30, 4, seed=3) + 7
    centred = (train - train.mean(axis=0)).astype(np.float64)
    outcomes = []
    for penalty in np.logspace(-4, 2, 13) * np.square(centred).sum() / 30:
        hat = centred @ np.linalg.solve(centred.T @ centred + penalty * np.eye(width), centred.T)
        left = (np.eye(30) - hat) @ (targets - targets.mean(axis=0))
        outcomes.append((np.square(left).sum() / (30 - 1 - np.trace(hat)) ** 2, penalty))
    model = Ridge(alpha=min(outcomes)[1]).fit(train.astype(np.float64), targets)
    expected = model.predict(held_out) - targets.mean(axis=0)
    np.testing.assert_allclose(RidgeMap(train, held_out).predict(targets), expected, atol=1e-4)


def test_the_rank_of_an_items_own_counts_ties_against_it():
    """Query 0 is nearest to lines 1 and 2, query 1 is as far from its own as from line 2."""
    queries = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    gallery = np.array([[1.0, 1.0], [1.0, 0.0], [2.0, 0.0]])
    assert ranks_of_own(queries, gallery).tolist() == [3, 3, 3]
    assert ranks_of_own(queries, queries).tolist() == [1, 1, 1]
