"""Optimisers by name; Lion, which PyTorch lacks, is written here."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..featcache.registry import unknown_name


class Lion(Optimizer):
    """Step by the sign of an average of gradients.

    u = sign(b1 m + (1 - b1) g), w <- w - lr (u + decay w), m <- b2 m + (1 - b2) g.

    Source: Chen et al. 2023, arXiv 2302.06675, algorithm 2.

    Args:
        params: Parameters or groups.
        lr: Learning rate; a third to a tenth of what AdamW takes.
        betas: b1 and b2.
        weight_decay: Decoupled decay.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take one step; a closure is not called."""
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_one(parameter, group, first, second)

    def _step_one(
        self, parameter: Tensor, group: Mapping[str, Any], first: float, second: float
    ) -> None:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
        average = state["exp_avg"]
        update = torch.lerp(gradient, average, first).sign_()
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
        average.lerp_(gradient, 1 - second)


_OPTIMISERS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "lion": Lion,
}


def build_optimiser(name: str, groups: list[dict[str, Any]], *, learning_rate: float) -> Optimizer:
    """Build the optimiser called `name` for groups of parameters.

    Raises:
        UnknownNameError: No optimiser is called so.
    """
    if name not in _OPTIMISERS:
        raise unknown_name("optimiser", name, _OPTIMISERS)
    return _OPTIMISERS[name](groups, lr=learning_rate)
