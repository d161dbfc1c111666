"""An exponential moving average of weights."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


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
        """Take the weights of one more step in."""
        decay = min(self.decay, (1 + self.num_steps) / (10 + self.num_steps))
        self.num_steps += 1
        for average, parameter in zip(self._averages, self._trained, strict=True):
            average.lerp_(parameter, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages in the place of the weights within the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, Tensor]:
        """Return the averages and the number of steps."""
        averages = {f"average.{number}": one for number, one in enumerate(self._averages)}
        return {**averages, "num_steps": torch.tensor(self.num_steps)}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self.num_steps = int(state["num_steps"])
        for number, average in enumerate(self._averages):
            average.copy_(state[f"average.{number}"])

    @torch.no_grad()
    def _swap(self) -> None:
        for average, parameter in zip(self._averages, self._trained, strict=True):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)
