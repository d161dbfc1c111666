"""One step of the optimiser, worked out by hand."""

import pytest
import torch
from torch import nn

from lightalign.pipelines.training.step import OptimiserStep


def step_of(weight: nn.Parameter, **options) -> OptimiserStep:
    return OptimiserStep([weight], torch.optim.SGD([weight], lr=0.5), **options)


def test_a_step_is_of_the_mean_gradient_at_a_share_of_the_rate():
    """Of w = 1: losses 2 w and 4 w have the mean gradient 3; 1 - 0.1 * 0.5 * 3 = 0.85."""
    weight = nn.Parameter(torch.tensor(1.0))
    step = step_of(weight, accumulate=2)
    for slope in (2.0, 4.0):
        step.add_gradient(slope * weight)
    step.take(0.1)
    assert weight.item() == pytest.approx(0.85)
    assert weight.grad is None


def test_long_gradients_are_cut_to_the_limit():
    """The gradient (3, 4) is 5 long, and a tenth of it 0.5: (0, 0) - 0.5 * (0.3, 0.4)."""
    weight = nn.Parameter(torch.zeros(2))
    step = step_of(weight, gradient_clip=0.5)
    step.add_gradient((weight * torch.tensor([3.0, 4.0])).sum())
    step.take()
    assert weight.tolist() == pytest.approx([-0.15, -0.2], rel=1e-5)


def test_the_rate_of_a_step_is_not_that_of_the_step_before():
    """Of w = 1 and loss w: 1 - 0.5 * 0.5 = 0.75, and then 0.75 - 0.5 = 0.25."""
    weight = nn.Parameter(torch.tensor(1.0))
    step = step_of(weight)
    for factor in (0.5, 1.0):
        step.add_gradient(1.0 * weight)
        step.take(factor)
    assert weight.item() == pytest.approx(0.25)
