"""Lion and the moving average, worked by hand; optimisers by name."""

import pytest
import torch
from timm.optim.lion import Lion
from torch import nn

from lightalign.featcache.errors import UnknownNameError
from lightalign.pipelines.training.optimisation import MovingAverage, build_optimiser


def test_two_steps_of_lion_by_hand():
    """w = 1, m = 0, rate 0.1, decay 0.01.

    g = 0.5: the sign of 0.1 * 0.5 is +, w = 1 * 0.999 - 0.1 = 0.899, m = 0.01 * 0.5 = 0.005.
    g = -1: the sign of 0.9 * 0.005 - 0.1 is -, w = 0.899 * 0.999 + 0.1 = 0.998101.
    """
    weight = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    groups = [{"params": [weight], "weight_decay": 0.01}]
    lion = build_optimiser("lion", groups, learning_rate=0.1)
    for gradient, expected in ((0.5, 0.899), (-1.0, 0.998101)):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        lion.step()
        assert weight.item() == pytest.approx(expected, abs=1e-12)
    assert lion.state[weight]["exp_avg"].item() == pytest.approx(0.99 * 0.005 - 0.01, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("lion", Lion)]
)
def test_optimisers_are_built_by_name_with_the_decay_of_each_group(name, kind):
    weights = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))]
    groups = [
        {"params": weights[:1], "weight_decay": 0.3},
        {"params": weights[1:], "weight_decay": 0.0},
    ]
    built = build_optimiser(name, groups, learning_rate=0.01)
    assert type(built) is kind
    assert [group["weight_decay"] for group in built.param_groups] == [0.3, 0.0]
    assert {group["lr"] for group in built.param_groups} == {0.01}


def test_an_unknown_optimiser_lists_the_known():
    with pytest.raises(UnknownNameError, match=r"adam.*adamw.*lion"):
        build_optimiser("sgd", [{"params": [nn.Parameter(torch.ones(1))]}], learning_rate=0.1)


def test_two_steps_of_the_average_by_hand():
    """From 0: d = 1/10 and then 2/11, so 0.1 * 0 + 0.9 * 10 = 9 and (2 * 9 + 9 * 20) / 11 = 18."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average = MovingAverage([module], decay=0.9)
    for weight in (10.0, 20.0):
        nn.init.constant_(module.weight, weight)
        average.update()
    with average.in_place():
        assert module.weight.item() == pytest.approx(18.0)
    assert module.weight.item() == 20.0


def test_a_late_average_moves_by_its_decay():
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average = MovingAverage([module], decay=0.9)
    average.num_steps = 10_000
    nn.init.constant_(module.weight, 10.0)
    average.update()
    with average.in_place():
        assert module.weight.item() == pytest.approx(1.0)


def test_an_error_leaves_the_trained_weights_in_place():
    module = nn.Linear(2, 2)
    average = MovingAverage([module], decay=0.5)
    before = module.weight.clone()
    with torch.no_grad():
        module.weight.add_(1)

    def fail():
        with average.in_place():
            assert torch.equal(module.weight, before)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.equal(module.weight, before + 1)


def test_an_average_goes_on_from_its_state():
    modules = [nn.Linear(2, 2), nn.Linear(2, 2)]
    modules[1].load_state_dict(modules[0].state_dict())
    first, second = (MovingAverage([module], decay=0.9) for module in modules)
    with torch.no_grad():
        modules[0].weight.add_(1)
    first.update()
    second.load(first.state())
    with torch.no_grad():
        modules[1].load_state_dict(modules[0].state_dict())
    first.update()
    second.update()
    assert all(torch.equal(value, second.state()[name]) for name, value in first.state().items())
