"""Optimisers by name, and the moving average of the weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...featcache.registry import unknown_name


class MovingAverage:
    """Follow the trained weights of some modules at a distance.

    a <- d a + (1 - d) w after each step, d = min(decay, (1 + n) / (10 + n)) after n steps, so that
    the first weights are soon forgotten.

    Source: Polyak and Juditsky 1992; the warm-up of d is that of TensorFlow's
    ExponentialMovingAverage.

    Args:
        modules: What is trained.
        decay: Largest d, in (0, 1).
    """

    def __init__(self, modules: Sequence[nn.Module], *, decay: float) -> None:
        self.decay = decay
        self.num_steps = 0
        self._trained = [p for module in modules for p in module.parameters() if p.requires_grad]
        self._averages = [p.detach().clone() for p in self._trained]

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages by the weights of one more step."""
        decay = min(self.decay, (1 + self.num_steps) / (10 + self.num_steps))
        self.num_steps += 1
        for average, parameter in zip(self._averages, self._trained, strict=True):
            average.lerp_(parameter, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Swap the averages in for the weights within the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, Tensor]:
        """Return the averages and the number of steps."""
        averages = {f"average.{number}": average for number, average in enumerate(self._averages)}
        return {**averages, "num_steps": torch.tensor(self.num_steps)}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.num_steps = int(state["num_steps"])
        for number, average in enumerate(self._averages):
            average.copy_(state[f"average.{number}"])

    @torch.no_grad()
    def _swap(self) -> None:
        # values are exchanged, not tensors: optimiser and gradients hold on to the parameters
        for average, parameter in zip(self._averages, self._trained, strict=True):
            current = parameter.clone()
            parameter.copy_(average)
            average.copy_(current)


def _lion(groups: list[dict[str, Any]], *, lr: float) -> Optimizer:
    """Build Lion (Chen et al. 2023, arXiv 2302.06675, algorithm 2), which PyTorch lacks."""
    # imports all of timm, which no other optimiser needs
    from timm.optim.lion import Lion

    built: Optimizer = Lion(groups, lr=lr)
    return built


_OPTIMISERS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "lion": _lion,
}


def build_optimiser(name: str, groups: list[dict[str, Any]], *, learning_rate: float) -> Optimizer:
    """Build the optimiser called `name` for groups of parameters.

    Raises:
        UnknownNameError: No optimiser is called so.
    """
    if name not in _OPTIMISERS:
        raise unknown_name("optimiser", name, _OPTIMISERS)
    return _OPTIMISERS[name](groups, lr=learning_rate)
