"""Distillation of an ensemble: by hand, against NumPy, in blocks, and beside any objective."""

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch.nn import functional

from lightalign.adapters import blocks
from lightalign.adapters.distillation import Distilled
from lightalign.adapters.objective import PairBatch, TeacherFeatures, build_objective
from lightalign.featcache.errors import SpecError


def units(rows, width, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, width, generator=generator, dtype=dtype), dim=1)


def distilled(part="clip", **options):
    return Distilled(build_objective({"part": part}), **options)


def batch_of(rows=5, *, dtype=torch.float64):
    first, second = (units(rows, 4, seed, dtype) for seed in (0, 1))
    taught = TeacherFeatures(units(rows, 6, 2, dtype), units(rows, 6, 3, dtype))
    return PairBatch(first, second, torch.eye(rows).bool(), taught=taught)


def test_a_student_that_knows_nothing_by_hand():
    """See the docstring: 0.7311 and 0.2689 against one half, 0.1109."""
    student = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    other = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    taught = TeacherFeatures(torch.eye(2).double(), torch.eye(2).double())
    batch = PairBatch(student, other, torch.eye(2).bool(), taught=taught)
    loss = distilled(temperature=1.0)(batch)
    assert loss.parts["distillation"].item() == pytest.approx(0.110944, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_value_is_that_of_numpy(temperature):
    batch = batch_of(7)
    student = (batch.first @ batch.second.T).numpy() / temperature
    taught = (batch.taught.first @ batch.taught.second.T).numpy() / temperature
    ways = ((taught, student), (taught.T, student.T))
    divergences = [
        rel_entr(softmax(p, axis=1), softmax(q, axis=1)).sum(axis=1).mean() for p, q in ways
    ]
    loss = distilled(temperature=temperature)(batch)
    assert loss.parts["distillation"].item() == pytest.approx(np.mean(divergences), rel=1e-9)


@pytest.mark.parametrize("part", ["clip", "siglip"])
def test_the_weighted_divergence_is_added_to_the_objective(part):
    batch = batch_of()
    alone = build_objective({"part": part})(batch)
    loss = distilled(part, weight=0.25)(batch)
    wanted = alone.total + 0.25 * loss.parts["distillation"]
    assert loss.total.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert set(loss.parts) == {*alone.parts, "distillation"}


def test_a_student_like_its_teacher_has_no_divergence():
    batch = batch_of()
    same = TeacherFeatures(batch.first, batch.second)
    turned = torch.linalg.qr(units(4, 4, 9)).Q
    loss = distilled()(PairBatch(batch.first @ turned, batch.second @ turned,
                                 batch.positives, taught=same))  # fmt: skip
    assert loss.parts["distillation"].item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("most", [blocks.MOST_LOGITS, 14])
def test_gradient_is_that_of_finite_differences(monkeypatch, most):
    monkeypatch.setattr(blocks, "MOST_LOGITS", most)  # 14 logits are two rows of seven
    batch, objective = batch_of(7), distilled(temperature=0.2)

    def divergence(first, second):
        return objective._divergence(first, second, batch.taught)

    inputs = [values.clone().requires_grad_() for values in (batch.first, batch.second)]
    torch.autograd.gradcheck(divergence, inputs)


def test_a_large_batch_in_blocks_is_the_whole(monkeypatch):
    """4,096 rows: the divergence, and each part of its gradient relative to the largest."""
    outcomes = []
    for most in (4096**2, blocks.MOST_LOGITS):
        monkeypatch.setattr(blocks, "MOST_LOGITS", most)
        batch = batch_of(4096, dtype=torch.float32)
        batch.first.requires_grad_()
        loss = distilled(weight=1.0)(batch)
        loss.total.backward()
        outcomes.append((loss.parts["distillation"], batch.first.grad))
    (whole, slopes), (blockwise, slopes_of_blocks) = outcomes
    assert blockwise.item() == pytest.approx(whole.item(), rel=1e-5)
    assert (slopes_of_blocks - slopes).abs().max() <= 1e-5 * slopes.abs().max()


@pytest.mark.parametrize(
    "options",
    [{"weight": -1.0}, {"temperature": 0.0}, {"temperature": float("nan")}, {"weight": np.inf}],
)
def test_an_option_out_of_its_range_is_refused(options):
    (value,) = options.values()
    with pytest.raises(SpecError, match=rf"weight of at least 0 and .* found .*{value}"):
        distilled(**options)
