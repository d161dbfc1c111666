"""KLOT: by hand, against NumPy, its gradient, in blocks, as published, and at the edges."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch.nn import functional

from lightalign.adapters import klot
from lightalign.adapters.klot import Klot, solve_transport
from lightalign.adapters.objective import PairBatch, TeacherFeatures
from lightalign.adapters.positives import Positives
from lightalign.featcache.errors import SpecError

NO_PAIRS = torch.zeros(0, dtype=torch.int64)


def unit(rows, width, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, width, generator=generator, dtype=dtype)
    return functional.normalize(values, dim=1)


def batch_of(first, second, teacher):
    positives = Positives(NO_PAIRS, NO_PAIRS, (len(first), len(second)))
    return PairBatch(first, second, positives, teacher=TeacherFeatures(*teacher))


def of_cosines(cosines, taught, **options):
    """Return the loss of two matrices of cosines: rows of one times the unit matrix."""
    return Klot(**options)(
        batch_of(
            cosines,
            torch.eye(cosines.shape[1]).to(cosines),
            (taught, torch.eye(taught.shape[1]).to(taught)),
        )
    )


def log_plan(cosines, temperature, iterations):
    """The published iterations in NumPy's float64, on whole matrices."""
    logits = cosines / temperature
    n, m = logits.shape
    u, v = np.zeros(n), np.zeros(m)
    for _ in range(iterations):
        u = -math.log(n) - logsumexp(logits + v, axis=1)
        v = -math.log(m) - logsumexp(logits + u[:, None], axis=0)
    more_u = -math.log(n) - logsumexp(logits + v, axis=1)
    more_v = -math.log(m) - logsumexp(logits + u[:, None], axis=0)
    return logits + ((u + more_u) / 2)[:, None] + (v + more_v) / 2


def expected(cosines, taught, temperature, teacher_temperature, iterations):
    """Value, and gradient at the cosines, in NumPy."""
    logs = log_plan(cosines, temperature, iterations)
    target = log_plan(taught, teacher_temperature, iterations)
    value = float((np.exp(target) * (target - logs)).sum())
    return value, (np.exp(logs) - np.exp(target)) / temperature


def test_two_items_a_side_by_hand():
    """See the docstring: 0.3655 and 0.1345 against 1/4."""
    loss = of_cosines(
        torch.zeros(2, 2, dtype=torch.float64),
        torch.eye(2, dtype=torch.float64),
        temperature=1.0,
        teacher_temperature=1.0,
        weight=3.0,
    )
    assert loss.parts["klot"].item() == pytest.approx(0.110944, abs=1e-6)
    assert loss.total.item() == pytest.approx(3 * 0.110944, abs=3e-6)


@pytest.mark.parametrize("most_logits", [klot.MOST_LOGITS, 15])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.2, "iterations": 3}])
def test_value_and_gradient_are_those_of_numpy_in_float64(monkeypatch, most_logits, options):
    monkeypatch.setattr(klot, "MOST_LOGITS", most_logits)  # 15 cosines are three rows of five
    first, second = unit(7, 4, 0).requires_grad_(), unit(5, 4, 1).requires_grad_()
    teacher = unit(7, 6, 2), unit(5, 6, 3)
    Klot(**options)(batch := batch_of(first, second, teacher)).total.backward()
    value, slopes = expected(
        (first @ second.T).detach().numpy(),
        (teacher[0] @ teacher[1].T).numpy(),
        options.get("temperature", 0.05),
        0.005,
        options.get("iterations", 100),
    )
    assert Klot(**options)(batch).parts["klot"].item() == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(first.grad, slopes @ second.detach().numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        second.grad, slopes.T @ first.detach().numpy(), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("most_logits", [klot.MOST_LOGITS, 10])
def test_gradient_is_that_of_finite_differences_in_float64(monkeypatch, most_logits):
    """Of converged plans: the gradient is not that of so many iterations, but of all."""
    monkeypatch.setattr(klot, "MOST_LOGITS", most_logits)
    teacher = unit(4, 3, 2), unit(5, 3, 3)
    objective = Klot(temperature=0.5, teacher_temperature=0.3, iterations=60)

    def divergence(first, second):
        return objective(batch_of(first, second, teacher)).total

    embeddings = unit(4, 2, 0).requires_grad_(), unit(5, 2, 1).requires_grad_()
    assert torch.autograd.gradcheck(divergence, embeddings)


def test_descent_on_cosines_reaches_the_plan_of_the_published_demonstration():
    """K' = 10 I at 0.1: the divergence falls to 0, and P becomes I / n."""
    n = 5
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(n, n, generator=generator).requires_grad_()
    values = []
    for _ in range(1000):
        loss = of_cosines(
            cosines, 10 * torch.eye(n), temperature=0.1, teacher_temperature=0.1, iterations=10
        )
        (slopes,) = torch.autograd.grad(loss.total, cosines)
        cosines = (cosines - 0.01 * slopes).detach().requires_grad_()
        values.append(loss.parts["klot"].item())
    assert values[0] > 1.0
    assert values[-1] < 0.01
    plan = solve_transport(cosines.detach(), torch.eye(n), temperature=0.1, iterations=100)
    torch.testing.assert_close(plan.log(slice(None)).exp(), torch.eye(n) / n, rtol=0, atol=2e-3)


@pytest.mark.parametrize("iterations", [1, 100])
def test_a_plan_has_uniform_margins_at_a_low_temperature(iterations):
    """At 0.005 a cosine of -1 and one of 1 are e^400 apart, which float32 does not hold."""
    rows, columns = unit(30, 4, 0, torch.float32), unit(20, 4, 1, torch.float32)
    plan = solve_transport(rows, columns, temperature=0.005, iterations=iterations)
    shares = plan.log(slice(None)).exp()
    assert torch.isfinite(plan.log(slice(None))).all()
    assert shares.sum().item() == pytest.approx(1, abs=0.2 if iterations == 1 else 0.01)


def test_4096_items_in_blocks_are_the_whole_to_1e_5(monkeypatch):
    """The divergence, and its gradient relative to its norm."""
    start = unit(4096, 16, 0, torch.float32), unit(4096, 16, 1, torch.float32)
    teacher = unit(4096, 8, 2, torch.float32), unit(4096, 8, 3, torch.float32)

    def taken(most_logits):
        monkeypatch.setattr(klot, "MOST_LOGITS", most_logits)
        embeddings = [side.clone().requires_grad_() for side in start]
        loss = Klot(iterations=2)(batch_of(*embeddings, teacher))
        loss.total.backward()
        return loss.total.item(), torch.cat([side.grad for side in embeddings])

    whole, blocks = taken(4096 * 4096), taken(4096 * 4096 // 5)
    assert blocks[0] == pytest.approx(whole[0], rel=1e-5)
    assert (blocks[1] - whole[1]).norm() < 1e-5 * whole[1].norm()


def test_embeddings_with_the_cosines_of_the_teacher_cost_nothing():
    teacher = unit(6, 4, 0), unit(7, 4, 1)
    rotation = torch.linalg.qr(torch.from_numpy(np.random.default_rng(2).normal(size=(4, 4)))).Q
    loss = Klot(teacher_temperature=0.05)(batch_of(*(side @ rotation for side in teacher), teacher))
    assert abs(loss.total.item()) < 1e-10


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 4), (4, 1)])
def test_where_one_item_takes_all_there_is_nothing_to_learn(rows, columns):
    first, second = unit(rows, 3, 0).requires_grad_(), unit(columns, 3, 1).requires_grad_()
    loss = Klot()(batch_of(first, second, (unit(rows, 3, 2), unit(columns, 3, 3))))
    loss.total.backward()
    assert abs(loss.total.item()) < 1e-10
    assert max(first.grad.abs().max(), second.grad.abs().max()).item() < 1e-10


def test_equal_items_share_what_there_is():
    first, second = unit(1, 3, 0).repeat(4, 1), unit(1, 3, 1).repeat(3, 1)
    plan = solve_transport(first, second, temperature=0.05, iterations=1)
    torch.testing.assert_close(plan.log(slice(None)).exp(), torch.full((4, 3), 1 / 12).double())
    assert abs(Klot()(batch_of(first, second, (first, second))).total.item()) < 1e-10


def test_what_is_no_number_stays_none():
    """A training refuses such a loss with the names of items."""
    first, second = unit(4, 3, 0), unit(3, 3, 1)
    first[2, 1] = math.nan
    assert math.isnan(Klot()(batch_of(first, second, (unit(4, 3, 2), second))).total.item())
    good = unit(4, 3, 0)
    assert math.isnan(Klot()(batch_of(good, second, (first, second))).total.item())


@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (3, 0)])
def test_a_side_without_items_is_refused(rows, columns):
    sides = unit(rows, 3, 0), unit(columns, 3, 1)
    with pytest.raises(SpecError, match=f"found {rows} and {columns}"):
        Klot()(batch_of(*sides, sides))


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"teacher_temperature": -0.1},
        {"temperature": math.nan},
        {"teacher_temperature": math.inf},
        {"weight": -1.0},
        {"weight": math.nan},
        {"iterations": 0},
    ],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(SpecError, match="KLOT needs"):
        Klot(**options)
