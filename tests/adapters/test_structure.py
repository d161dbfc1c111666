"""The regulariser of STRUCTURE: by hand, against NumPy, in blocks, and in what it asks for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch.nn import functional

from lightalign.adapters import structure
from lightalign.adapters.objective import OBJECTIVES, PairBatch, TeacherFeatures, build_objective
from lightalign.adapters.structure import Structure
from lightalign.featcache.errors import SpecError, UnknownNameError


def random(rows, width, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator, dtype=dtype)


def batch_of(rows=5):
    image, text, *teacher = (
        functional.normalize(random(rows, width, seed), dim=1)
        for seed, width in enumerate((4, 4, 7, 3))
    )
    return PairBatch(image, text, torch.eye(rows).bool(), teacher=TeacherFeatures(*teacher))


def expected(features, embeddings, temperature, weights):
    """The formula in NumPy's float64, each power of a whole matrix."""
    walks = []
    for values in (features.numpy(), embeddings.numpy()):
        units = values / np.linalg.norm(values, axis=1, keepdims=True)
        units = units - units.mean(axis=0)
        walks.append(softmax(units @ units.T / temperature, axis=1))
    total = 0.0
    for level, weight in enumerate(weights, start=1):
        p, q = (np.linalg.matrix_power(walk, level) for walk in walks)
        mean = (p + q) / 2
        rows = (rel_entr(p, mean).sum(axis=1) + rel_entr(q, mean).sum(axis=1)) / 2
        total += weight * rows.mean()
    return total / len(weights)


def test_two_opposite_embeddings_of_orthogonal_features_by_hand():
    """See the docstring: sigmoid(1) against sigmoid(2), 0.0183."""
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    divergence = Structure(temperature=1.0).divergence(torch.eye(2).double(), opposite)
    assert divergence.item() == pytest.approx(0.018306, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, [1.0]),
        ({"temperature": 0.1, "levels": 3}, [1.0, 1.0, 1.0]),
        ({"temperature": 0.3, "levels": 3, "level_weights": "inverse"}, [1.0, 1 / 2, 1 / 3]),
    ],
)
def test_value_is_that_of_numpy(options, weights):
    features, embeddings = random(9, 6, 0), random(9, 4, 1)
    divergence = Structure(**options).divergence(features, embeddings)
    temperature = options.get("temperature", 0.05)
    wanted = expected(features, embeddings, temperature, weights)
    assert divergence.item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("block", [structure.BLOCK, 14])
def test_gradient_is_that_of_finite_differences(monkeypatch, levels, block):
    monkeypatch.setattr(structure, "BLOCK", block)  # 14 similarities are two of seven rows
    regulariser, features = Structure(levels=levels, temperature=0.2), random(7, 6, 0)
    embeddings = random(7, 4, 1).requires_grad_()
    torch.autograd.gradcheck(lambda values: regulariser.divergence(features, values), embeddings)


@pytest.mark.parametrize("levels", [1, 2])
def test_a_large_batch_in_blocks_is_the_whole(monkeypatch, levels):
    """4,096 rows: the divergence, and each part of its gradient relative to the largest."""
    rows = 4096 if levels == 1 else 1024
    features, start = random(rows, 16, 0, torch.float32), random(rows, 8, 1, torch.float32)

    def taken(block):
        monkeypatch.setattr(structure, "BLOCK", block)
        embeddings = start.clone().requires_grad_()
        divergence = Structure(levels=levels).divergence(features, embeddings)
        divergence.backward()
        return divergence.item(), embeddings.grad / embeddings.grad.abs().max()

    whole, blocks = taken(rows * rows), taken(rows * rows // 5)
    assert blocks[0] == pytest.approx(whole[0], rel=1e-5)
    torch.testing.assert_close(blocks[1], whole[1], rtol=0, atol=1e-5)


def test_embeddings_with_the_neighbours_of_the_features_cost_nothing():
    features = random(6, 4, 0)
    rotation = torch.linalg.qr(random(4, 4, 1)).Q
    assert Structure(levels=2).divergence(features, 3 * features @ rotation).item() < 1e-12


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_any_objective_takes_it_as_a_table(name):
    batch = batch_of()
    plain = build_objective({"part": name}).double()
    table = {"weight": 4.0, "temperature": 0.2, "warmup": 10}
    regularised = build_objective({"part": name, "structure": table}).double()
    assert regularised.needs_teacher
    sides = [
        expected(features, embeddings, 0.2, [1.0])
        for features, embeddings in (
            (batch.teacher.first, batch.first),
            (batch.teacher.second, batch.second),
        )
    ]
    loss, before = regularised(batch), plain(batch)
    assert loss.parts["structure"].item() == pytest.approx(np.mean(sides), rel=1e-9)
    assert {**loss.parts, **before.parts}.keys() == loss.parts.keys()
    assert (loss.total - before.total).item() == pytest.approx(4 * np.mean(sides), rel=1e-9)
    # two of ten steps of the rise are the third step's
    early = regularised(replace(batch, step=2)).total - before.total
    assert early.item() == pytest.approx(0.3 * 4 * np.mean(sides), rel=1e-9)


def test_the_weight_rises_by_steps_and_is_whole_outside_of_a_training():
    weights = [Structure(weight=8.0, warmup=4).weight_at(step) for step in (0, 1, 3, 9, None)]
    assert weights == [2.0, 4.0, 8.0, 8.0, 8.0]
    assert Structure(warmup=0).weight_at(0) == 10.0


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({"weight": -1.0}, SpecError, "weight and warmup must be at least 0"),
        ({"temperature": 0.0}, SpecError, "temperature positive"),
        ({"levels": 0}, SpecError, "levels at least 1"),
        ({"level_weights": "falling"}, UnknownNameError, "equal.*inverse"),
        ({"lambda": 10.0}, SpecError, r"\[objective.structure\].*lambda"),
        (10.0, SpecError, r"\[objective.structure\] must be a table"),
    ],
)
def test_a_wrong_table_is_refused(table, error, message):
    with pytest.raises(error, match=message):
        build_objective({"part": "clip", "structure": table})
