"""Distillation by hand, against SciPy, and in what it pulls."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch.nn import functional

from lightalign.adapters.objective import PairBatch, TeacherFeatures, build_objective
from lightalign.featcache.errors import SpecError, UnknownNameError

OWNERS = np.array([0, 0, 1, 2, 2, 2])  # images of six texts


def unit(rows, width, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    return functional.normalize(values, dim=1)


def batch_of(seed=0):
    positives = torch.from_numpy(np.arange(3)[:, None] == OWNERS[None, :])
    teacher = TeacherFeatures(unit(3, 7, seed + 2), unit(6, 4, seed + 3))
    return PairBatch(unit(3, 5, seed), unit(6, 5, seed + 1), positives, teacher=teacher)


def distil(**options):
    return build_objective({"part": "distil", **options}).double()


def divergence(wanted, found, temperature):
    """Mean over rows of sum p log(p / q), by SciPy."""
    p, q = (softmax(one / temperature, axis=1) for one in (wanted, found))
    return rel_entr(p, q).sum(axis=1).mean()


def across(batch, teacher):
    """The teacher's matrix, pair by pair."""
    text, image = batch.teacher.second.numpy(), batch.teacher.first.numpy()
    found = np.zeros((3, 6))
    for i in range(3):
        for j in range(6):
            own = [k for k in range(6) if OWNERS[k] == i]
            by_text = np.mean([text[k] @ text[j] for k in own])
            by_image = image[i] @ image[OWNERS[j]]
            found[i, j] = {"text": by_text, "image": by_image, "both": (by_text + by_image) / 2}[
                teacher
            ]
    return found


def test_two_orthogonal_pairs_by_hand():
    """The teacher's texts at cosine 1/2, t = 1: KL is 0.027955 both ways, clip log(1 + 1/e)."""
    eye = torch.eye(2, dtype=torch.float64)
    features = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]], dtype=torch.float64)
    batch = PairBatch(eye, eye, eye.bool(), teacher=TeacherFeatures(eye, features))
    loss = distil(temperature=1.0, scale_init=1.0, weight=2.0)(batch)
    assert loss.parts["distillation"].item() == pytest.approx(0.027955, abs=1e-6)
    assert loss.total.item() == pytest.approx(0.3132617 + 2 * 0.027955, abs=1e-6)


@pytest.mark.parametrize("teacher", ["text", "image", "both"])
def test_across_equals_scipy_with_several_texts_an_image(teacher):
    batch = batch_of()
    found = distil(teacher=teacher, temperature=0.2)(batch).parts["distillation"].item()
    wanted, seen = across(batch, teacher), batch.first.numpy() @ batch.second.numpy().T
    expected = (divergence(wanted, seen, 0.2) + divergence(wanted.T, seen.T, 0.2)) / 2
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("teacher", ["text", "image", "both"])
def test_within_equals_scipy_and_leaves_an_item_itself_out(teacher):
    batch = batch_of()
    found = distil(teacher=teacher, student="within")(batch).parts["distillation"].item()
    pairs = {
        "text": (batch.teacher.second, batch.second),
        "image": (batch.teacher.first, batch.first),
    }
    terms = []
    for name in ("text", "image") if teacher == "both" else (teacher,):
        sides = [one.numpy() @ one.numpy().T for one in pairs[name]]
        apart = ~np.eye(len(sides[0]), dtype=bool)
        cut = [side[apart].reshape(len(side), -1) for side in sides]
        terms.append(divergence(*cut, 0.1))
    assert found == pytest.approx(np.mean(terms), rel=1e-9)


@pytest.mark.parametrize("student", ["across", "within"])
def test_a_student_that_sees_what_the_teacher_sees_is_left_alone(student):
    """Embeddings that are the teacher's own features: KL and its gradient are zero."""
    text = unit(4, 5, 0).requires_grad_()
    image = text.detach().clone().requires_grad_()
    features = TeacherFeatures(text.detach(), text.detach())
    batch = PairBatch(image, text, torch.eye(4, dtype=torch.bool), teacher=features)
    objective = distil(student=student)
    loss = objective(batch)
    (loss.total - objective.contrast(batch).total).backward()
    assert loss.parts["distillation"].item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(text.grad, torch.zeros_like(text), rtol=0, atol=1e-10)


@pytest.mark.parametrize("student", ["across", "within"])
def test_steps_down_the_loss_bring_the_student_to_the_teacher(student):
    batch = batch_of()
    image, text = (side.clone().requires_grad_() for side in (batch.first, batch.second))
    objective = distil(student=student, teacher="both", weight=100.0, temperature=0.5)
    optimiser = torch.optim.SGD([image, text], lr=0.05)
    found = []
    for _ in range(30):
        units = functional.normalize(image, dim=1), functional.normalize(text, dim=1)
        loss = objective(replace(batch, first=units[0], second=units[1]))
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        found.append(loss.parts["distillation"].item())
    assert found[-1] < 0.5 * found[0]


def test_one_item_alone_has_nobody_to_be_like():
    one = unit(1, 5, 0)
    batch = PairBatch(
        one, one, torch.ones(1, 1, dtype=torch.bool), teacher=TeacherFeatures(one, one)
    )
    assert distil(student="within")(batch).total.item() == 0.0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weight": -1.0}, SpecError, "weight must be at least 0"),
        ({"temperature": 0.0}, SpecError, "temperature positive"),
        ({"teacher": "texts"}, UnknownNameError, "no teacher named 'texts'.*both.*image.*text"),
        ({"student": "between"}, UnknownNameError, "no student named 'between'.*across.*within"),
        ({"scale_init": 200.0}, SpecError, "and max 100.0"),
    ],
)
def test_wrong_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        distil(**options)
