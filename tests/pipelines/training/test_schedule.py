"""Rates of steps, worked by hand, and as torch and LAVIS have them."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from lightalign.pipelines.training.checkpoint import TrainingState
from lightalign.pipelines.training.course import Course
from lightalign.pipelines.training.options import TrainOptions
from lightalign.pipelines.training.schedule import (
    cosine_by_epochs,
    cosine_with_warmup,
    follow_plateau,
    learning_rate_factor,
    linear_with_warmup,
)


def test_the_rate_rises_and_falls_as_worked_out():
    """Ten steps, two of warm-up: 1/2, 1, then (1 + cos(pi i / 8)) / 2; half down at step 6."""
    factors = [cosine_with_warmup(step, num_steps=10, warmup=0.2) for step in range(10)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[6] == pytest.approx(0.5)
    assert factors[9] == pytest.approx(0.0380602)  # (1 + cos(7 pi / 8)) / 2
    assert all(after <= before for before, after in pairwise(factors[2:]))


@pytest.mark.parametrize("schedule", [cosine_with_warmup, linear_with_warmup])
def test_without_warmup_the_first_step_is_the_highest(schedule):
    assert schedule(0, num_steps=5, warmup=0.0) == 1.0


def test_a_straight_fall_is_as_worked_out():
    """Ten steps, two of warm-up: 1/2, 1, then 8/8 down to 1/8."""
    factors = [linear_with_warmup(step, num_steps=10, warmup=0.2) for step in range(10)]
    assert factors == pytest.approx([0.5, 1.0, *(eighths / 8 for eighths in range(8, 0, -1))])


def test_a_straight_fall_is_that_of_transformers():
    """Its rise begins at 0, where a step would change nothing; ours is a step ahead in it."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    expected = get_linear_schedule_with_warmup(optimiser, 4, 40)
    for step in range(40):
        rate = optimiser.param_groups[0]["lr"]
        ours = linear_with_warmup(step, num_steps=40, warmup=0.1)
        assert ours == pytest.approx(rate + 1 / 4 if step < 4 else rate)
        optimiser.step()
        expected.step()


def test_a_cosine_by_epochs_is_that_of_lavis():
    """Four steps an epoch, three epochs, a rise over ten: the first epoch has four of these."""
    factors = [
        cosine_by_epochs(step, epoch_steps=4, num_epochs=3, warmup_steps=10, first=1e-3, last=1e-3)
        for step in range(12)
    ]
    rise = [1e-3 + 0.999 * step / 10 for step in range(4)]
    later = [(1 - 1e-3) * 0.5 * (1 + math.cos(math.pi * epoch / 3)) + 1e-3 for epoch in (1, 2)]
    assert factors == pytest.approx([*rise, *[later[0]] * 4, *[later[1]] * 4])
    assert cosine_by_epochs(3, epoch_steps=4, num_epochs=3) == 1.0


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", 0.5 * (1 + math.cos(math.pi * 10 / 11))),
        ("cosine-epochs", 0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * 3 / 4))),
        ("linear", 1 / 11),
        ("constant", 1.0),
        ("plateau", 0.8),
    ],
)
def test_the_last_of_eleven_steps_has_the_rate_of_its_schedule(schedule, expected):
    """Three steps an epoch: the fourth has two, and the last step is the end of the cosine."""
    options = TrainOptions(
        batch_size=10, steps=11, schedule=schedule, warmup=0.0, learning_rate=0.5, last_rate=0.1
    )
    course = Course.of(options, num_rows=30)
    plateau = 0.8 if schedule == "plateau" else 1.0
    assert learning_rate_factor(10, options, course, plateau=plateau) == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [0.0, 1e-4, 0.1])
@pytest.mark.parametrize("patience", [0, 2, 5])
def test_the_plateau_is_torchs(threshold, patience):
    options = TrainOptions(
        schedule="plateau", plateau_patience=patience, plateau_threshold=threshold
    )
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    expected = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, patience=patience, factor=options.plateau_factor, threshold=threshold
    )
    random = np.random.default_rng(4)
    losses = 2 + np.exp(-np.arange(40) / 8) + random.normal(0, 0.02, 40)
    losses[20:] = losses[20] * (1 - 5e-5) ** np.arange(20)  # falls by less than torch's share
    state = TrainingState()
    for loss in losses.tolist():
        follow_plateau(state, loss, options)
        expected.step(loss)
        assert state.factor == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-12)


def test_a_plateau_lowers_the_rate_after_its_patience():
    options = TrainOptions(schedule="plateau", plateau_patience=1)
    state, factors = TrainingState(), []
    for loss in (3.0, 2.0, 2.0, 2.5, 2.5, 1.0, 1.0, 1.0):
        follow_plateau(state, loss, options)
        factors.append(round(state.factor, 3))
    assert factors == [1.0, 1.0, 1.0, 0.8, 0.8, 0.8, 0.8, 0.64]
