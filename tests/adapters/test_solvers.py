"""Training-free methods against scikit-learn and SciPy on random data."""

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.cross_decomposition import CCA
from sklearn.linear_model import Ridge

from lightalign.adapters.solver import (
    SOLVERS,
    AnchorSolver,
    LinearSolver,
    Moments,
    build_solver,
)
from lightalign.adapters.solvers import _canonical
from lightalign.adapters.solvers._canonical import canonical
from lightalign.adapters.steps.weighted_unit import WeightedUnit
from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import IMAGE_TEXT, TEXT_TEXT

PAIRS, FIRST, SECOND = 400, 7, 5


def data(first=FIRST, second=SECOND, seed=0):
    random = np.random.default_rng(seed)
    common = random.standard_normal((PAIRS, 3))
    x = common @ random.standard_normal((3, first)) + random.standard_normal((PAIRS, first))
    y = common @ random.standard_normal((3, second)) + random.standard_normal((PAIRS, second))
    return x + 2.0, y - 1.0


def moments_of(x, y, parts=3):
    moments = Moments(x.shape[1], y.shape[1])
    for one, other in zip(np.array_split(x, parts), np.array_split(y, parts), strict=True):
        moments.add(one, other, np.eye(len(one), dtype=bool))
    return moments


def applied(found, x):
    return x @ found.weight.T + found.bias


def test_moments_of_parts_are_those_of_the_whole():
    x, y = data()
    moments = moments_of(x, y, parts=7)
    first, across, second = moments.scatters
    centred_x, centred_y = x - x.mean(axis=0), y - y.mean(axis=0)
    np.testing.assert_allclose(first, centred_x.T @ centred_x, atol=1e-9)
    np.testing.assert_allclose(across, centred_x.T @ centred_y, atol=1e-9)
    np.testing.assert_allclose(second, centred_y.T @ centred_y, atol=1e-9)
    np.testing.assert_allclose(np.concatenate(moments.means), [*x.mean(axis=0), *y.mean(axis=0)])


def test_related_vectors_have_the_moments_of_their_pairs():
    random = np.random.default_rng(3)
    x, y = random.standard_normal((6, FIRST)) + 1, random.standard_normal((9, SECOND)) - 2
    together = random.random((6, 9)) < 0.4
    lines, columns = np.nonzero(together)
    expected = moments_of(x[lines], y[columns])
    found = Moments(FIRST, SECOND)
    found.add(x[:4], y, together[:4])
    found.add(x[4:], y, together[4:])
    assert found.count == expected.count == together.sum()
    for one, other in zip(
        (*found.scatters, *found.means), (*expected.scatters, *expected.means), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-9)


@pytest.mark.parametrize(("first", "second"), [(FIRST, SECOND), (SECOND, FIRST)])
def test_factors_give_the_directions_that_roots_give(monkeypatch, first, second):
    """Up to signs; the roots are those of Vinod's formula, by eigenvectors and a whole SVD."""
    moments = moments_of(*data(first, second))
    quick = canonical(moments, 4, regularisation=0.3, name="cca")
    monkeypatch.setattr(_canonical, "_by_factors", lambda *_, **__: None)
    slow = canonical(moments, 4, regularisation=0.3, name="cca")
    np.testing.assert_allclose(quick.correlations, slow.correlations, rtol=1e-9, atol=1e-12)
    for one, other in ((quick.first, slow.first), (quick.second, slow.second)):
        np.testing.assert_allclose(np.abs(one), np.abs(other), rtol=1e-7, atol=1e-9)
    signs = [
        np.sign(getattr(quick, side)[:, 0] * getattr(slow, side)[:, 0])
        for side in ("first", "second")
    ]
    np.testing.assert_array_equal(*signs)  # both sides turn together


def test_a_side_of_fewer_dimensions_than_features_has_correlations_of_zero():
    """Two columns of one side are equal: the smallest correlation is zero, of no direction."""
    x, y = data()
    y[:, 1] = y[:, 0]
    found = canonical(moments_of(x, y), SECOND, regularisation=1e-3, name="cca")
    assert found.correlations[-1] == pytest.approx(0, abs=1e-6)
    assert np.isfinite(found.first).all()


def names_of(kind):
    return [name for name in SOLVERS.names() if issubclass(SOLVERS.load(name), kind)]


def test_each_method_is_of_one_of_the_two_kinds():
    assert sorted(names_of(LinearSolver) + names_of(AnchorSolver)) == SOLVERS.names()


@pytest.mark.parametrize("name", names_of(AnchorSolver))
def test_anchors_are_as_wide_as_the_features_and_in_the_order_of_the_pairs(name):
    x, y = data()
    solver = build_solver({"part": name})
    order = np.random.default_rng(1).permutation(PAIRS)
    for found, side in zip(solver.anchors(x, y), (x, y), strict=True):
        assert found.shape == side.shape
        assert np.isfinite(found).all()
    for found, again in zip(solver.anchors(x, y), solver.anchors(x[order], y[order]), strict=True):
        np.testing.assert_array_equal(found[order], again)


def test_asif_leaves_features_of_zeros_and_makes_others_units():
    """(3, 4) has length 5."""
    found, _ = build_solver({"part": "asif"}).anchors(np.array([[3.0, 4.0], [0, 0]]), np.eye(2))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]])


@pytest.mark.parametrize("name", [name for name in names_of(LinearSolver) if name != "as-is"])
def test_maps_are_centred_and_of_the_width_that_was_asked_for(name):
    x, y = data(SECOND, SECOND)
    maps = build_solver({"part": name}).solve(moments_of(x, y), SECOND)
    for found, side in zip(maps, (x, y), strict=True):
        mapped = applied(found, side)
        assert mapped.shape == (PAIRS, SECOND)
        np.testing.assert_allclose(mapped.mean(axis=0), 0, atol=1e-9)


@pytest.mark.parametrize("target", ["text", "image"])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_ridge_is_that_of_scikit_learn(target, alpha):
    x, y = data()
    out = SECOND if target == "text" else FIRST
    solver = build_solver({"part": "ridge", "alpha": alpha, "target": target})
    first, second = solver.solve(moments_of(x, y), out)
    source, wanted, found, kept = (
        (x, y, first, second) if target == "text" else (y, x, second, first)
    )
    expected = Ridge(alpha=alpha).fit(source, wanted).predict(source)
    np.testing.assert_allclose(
        applied(found, source), expected - wanted.mean(axis=0), rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(applied(kept, wanted), wanted - wanted.mean(axis=0), atol=1e-12)
    # the same by the place of the side
    placed = {
        "part": "ridge",
        "alpha": alpha,
        "target": {"text": "second", "image": "first"}[target],
    }
    again = build_solver(placed).solve(moments_of(x, y), out)
    np.testing.assert_array_equal(again[0].weight, first.weight)
    np.testing.assert_array_equal(again[1].weight, second.weight)


@pytest.mark.parametrize("sides", [IMAGE_TEXT, TEXT_TEXT])
def test_csa_scores_as_its_formula(sides):
    """sum rho a b / (|a| |b|) of the variates that scikit-learn finds, whatever their signs."""
    x, y = data()
    maps = build_solver({"part": "csa", "regularisation": 0.0}).solve(moments_of(x, y), 3)
    steps = []
    for found, width in zip(maps, (FIRST, SECOND), strict=True):
        step = WeightedUnit(width, out=3).double()
        with torch.no_grad():
            step.linear.weight.copy_(torch.from_numpy(found.weight))
            step.linear.bias.copy_(torch.from_numpy(found.bias))
            step.weights.copy_(torch.from_numpy(found.weights))
        steps.append(step)

    def embedded(step, values, side):
        tokens = Tokens(torch.from_numpy(values)[:, None], torch.ones(PAIRS, 1, dtype=torch.bool))
        with torch.no_grad():
            return step(tokens, side).values[:, 0].numpy()

    first = embedded(steps[0], x, sides[0])
    second = embedded(steps[1], y, sides[1])
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(second, axis=1), 1, atol=1e-12)
    a, b = CCA(n_components=3, scale=False, max_iter=5000, tol=1e-12).fit(x, y).transform(x, y)
    a, b = a / a.std(axis=0), b / b.std(axis=0)
    correlations = (a * b).mean(axis=0)
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None, :]
    np.testing.assert_allclose(first @ second.T, (a * correlations) @ b.T / lengths, atol=1e-5)


def test_as_is_leaves_every_vector_as_it_is():
    x, y = data(SECOND, SECOND)
    for found, side in zip(build_solver({"part": "as-is"}).solve(moments_of(x, y), SECOND), (x, y),
                           strict=True):  # fmt: skip
        np.testing.assert_array_equal(applied(found, side), side)


def test_procrustes_is_that_of_scipy_up_to_a_common_rotation():
    x, y = data(SECOND, SECOND)
    first, second = build_solver({"part": "procrustes"}).solve(moments_of(x, y), SECOND)
    rotation, _ = orthogonal_procrustes(x - x.mean(axis=0), y - y.mean(axis=0))
    np.testing.assert_allclose(first.weight.T @ second.weight, rotation, rtol=0, atol=1e-5)
    np.testing.assert_allclose(first.weight @ first.weight.T, np.eye(SECOND), atol=1e-9)


@pytest.mark.parametrize("out", [1, 3])
def test_cca_has_the_variates_of_scikit_learn(out):
    x, y = data()
    solver = build_solver({"part": "cca", "regularisation": 0.0, "power": 0.0})
    first, second = solver.solve(moments_of(x, y), out)
    expected = CCA(n_components=out, max_iter=100_000, tol=1e-14).fit(x, y).transform(x, y)
    for found, other in zip((applied(first, x), applied(second, y)), expected, strict=True):
        np.testing.assert_allclose(found.std(axis=0, ddof=1), 1.0, rtol=1e-6)
        for column in range(out):
            correlation = np.corrcoef(found[:, column], other[:, column])[0, 1]
            assert abs(correlation) == pytest.approx(1, abs=1e-5)


def test_the_power_weighs_directions_by_their_correlation():
    x, y = data()
    plain, weighted = (
        build_solver({"part": "cca", "regularisation": 0.0, "power": power}).solve(
            moments_of(x, y), 3
        )
        for power in (0.0, 0.5)
    )
    variates = applied(plain[0], x), applied(plain[1], y)
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(*(v.T for v in variates), strict=True)]
    np.testing.assert_allclose(
        applied(weighted[0], x), variates[0] * np.sqrt(correlations), atol=1e-9
    )


def test_cca_of_features_without_any_variance_is_finite():
    x, y = data()
    x[:, 2] = 5.0
    first, _ = build_solver({"part": "cca", "regularisation": 0.0}).solve(moments_of(x, y), 3)
    assert np.isfinite(first.weight).all()


@pytest.mark.parametrize(
    ("table", "out", "message"),
    [
        ({"part": "cca"}, 6, "cca has 5 directions at most, asked for 6"),
        ({"part": "procrustes"}, 6, "5 features at most"),
        ({"part": "ridge"}, 6, "gives the 5 features of its target, asked for 6"),
        ({"part": "cca", "regularisation": -1.0}, 3, "at least 0"),
        ({"part": "ridge", "alpha": -1.0}, 5, "at least 0"),
        ({"alpha": 1.0}, 5, "must name its part"),
    ],
)
def test_what_a_method_cannot_give_is_said(table, out, message):
    with pytest.raises(SpecError, match=message):
        build_solver(table).solve(moments_of(*data()), out)


def test_unknown_solvers_and_targets_list_the_known():
    with pytest.raises(UnknownNameError, match=r"cca.*procrustes.*ridge"):
        build_solver({"part": "pca"})
    with pytest.raises(UnknownNameError, match=r"image.*text"):
        build_solver({"part": "ridge", "target": "audio"})
    with pytest.raises(UnknownNameError, match=r"average.*each"):
        build_solver({"part": "cca", "captions": "mean"})
