"""Memory of what is trained, and of the moments that a step has whatever it is trained on."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor

from ...featcache.encoders.memory import LiveTensors
from .allocations import ROWS
from .planned import Planned
from .spec import PeakMemory

CPU = torch.device("cpu")  # where small steps are taken, whatever device the large one is for


class TrainedMemory(ABC):
    """Memory of a planned step at any batch and chunk.

    Args:
        planned: The step; its own batch and chunk do not matter.

    Attributes:
        num_parameters: Numbers that are trained.
    """

    def __init__(self, planned: Planned) -> None:
        self._planned = planned
        self._modules = modules = planned.modules(CPU)
        self._accumulates = planned.options.accumulate > 1
        self.num_parameters = modules.num_parameters
        buffers = [*modules.adapter.buffers(), *modules.objective.buffers()]
        copies = 1 if modules.average is None else 2
        self._weights = copies * bytes_of([*modules.parameters, *buffers])
        self._gradients = bytes_of([p for p in modules.parameters if p.requires_grad])
        with torch.random.fork_rng(devices=[]):
            self._updating = self._update()
        moments = [value for state in modules.optimiser.state.values() for value in state.values()]
        self._optimiser = bytes_of([moment for moment in moments if isinstance(moment, Tensor)])

    @abstractmethod
    def peak(self, batch_size: int, chunk_size: int) -> PeakMemory:
        """Return what is in memory at the peak of a step.

        Args:
            batch_size: Images of a batch.
            chunk_size: Rows whose graph is in memory at once, or 0 for all.
        """

    def largest_chunk(self, batch_size: int, budget: int) -> int | None:
        """Return the largest power of two rows whose peak is within `budget` bytes, if any is."""
        sizes = [2**power for power in range(self._most_rows(batch_size).bit_length())]
        fitting = [size for size in sizes if self.peak(batch_size, size).total <= budget]
        return max(fitting, default=None)

    @abstractmethod
    def _most_rows(self, batch_size: int) -> int:
        """Return how many rows a chunk of a batch may have."""

    def _update(self) -> int:
        """Let the optimiser make its moments, and return the peak bytes of its next step."""
        step = self._planned.train_step(self._modules, ROWS[0], CPU)
        # twice, as the first one makes moments that stay, and no later one does
        for _ in range(2):
            self._set_gradients(there=True)
            with LiveTensors() as live:
                step.take()
        peak: int = live.peak_bytes
        return peak

    def _set_gradients(self, *, there: bool) -> None:
        for parameter in self._modules.parameters:
            parameter.grad = None
            if there and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors, each counted whole."""
    return sum(tensor.nbytes for tensor in tensors)
