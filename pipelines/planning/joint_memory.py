"""Memory of a step that reads pairs together, of any size, from the tensors of two small ones."""

from contextlib import ExitStack
from functools import cached_property

import torch

from ...adapters.joint_adapter import JointAdapter
from ...adapters.joint_objective import JointObjectives
from ...featcache.encoders.memory import LiveTensors
from ..training.joint.step import MATCHES
from ..training.modules import TrainingModules
from .allocations import ROWS, Allocations
from .joint_step import WRONG_PAIRS, PlannedJointStep
from .spec import PeakMemory
from .trained_memory import CPU, TrainedMemory

_FLOAT_BYTES = 4
_FEW = ROWS[:2]  # nothing is made for each two pairs, whose bytes would grow with their square


class JointStepMemory(TrainedMemory):
    """Memory of a planned step that reads pairs together.

    A chunk is of pairs, and its gradient is added before the next: no more than its graph is there.
    """

    _planned: PlannedJointStep
    _modules: TrainingModules[JointAdapter, JointObjectives]

    def peak(self, batch_size: int, chunk_size: int) -> PeakMemory:
        """Return what is in memory at the peak of a step: in a chunk, or as the optimiser steps."""
        pairs = self._most_rows(batch_size)
        in_chunk = min(chunk_size or pairs, pairs)
        # of several chunks, all but the first find gradients
        adds = self._accumulates or in_chunk < pairs
        tensors = self._adding if adds else self._whole
        # one moment, not the sum of the most of each part: gradients come while activations go
        there = tensors.at_peak(tensors.num_bytes(in_chunk))
        gradients, loss = (
            int(there[which].sum()) for which in (tensors.is_gradient, tensors.is_loss)
        )
        activations = int(there.sum()) - gradients - loss
        gradients = self._gradients if adds else gradients
        moments = [
            self._moment(batch_size, gradients, activations, loss),
            self._moment(batch_size, self._gradients, self._updating, 0),
        ]
        return max(moments, key=lambda moment: moment.total)

    def _moment(self, batch_size: int, gradients: int, activations: int, loss: int) -> PeakMemory:
        """Return the memory of one moment, with what is there all the time."""
        shape = self._planned.shape
        row_bytes = sum(shape.row_bytes(side) for side in shape.sides)
        row_bytes += self._planned.answers_loaded(self._modules.objective) * _FLOAT_BYTES
        return PeakMemory(
            weights=self._weights,
            gradients=gradients,
            optimiser=self._optimiser,
            features=shape.ready * batch_size * row_bytes,
            activations=activations,
            loss=loss,
        )

    def _most_rows(self, batch_size: int) -> int:
        reads_wrong = MATCHES in self._modules.objective.labels
        return batch_size * (1 + WRONG_PAIRS if reads_wrong else 1)

    @cached_property
    def _whole(self) -> Allocations:
        """Tensors of a batch that is read at once, by the pairs that are read."""
        return self._fitted(adds=False)

    @cached_property
    def _adding(self) -> Allocations:
        """Tensors of a chunk whose gradient is added to that of others."""
        return self._fitted(adds=True)

    def _fitted(self, *, adds: bool) -> Allocations:
        with torch.random.fork_rng(devices=[]):
            return Allocations.fitted([self._record(pairs, adds=adds) for pairs in _FEW])

    def _record(self, pairs: int, *, adds: bool) -> Allocations:
        """Return the tensors that a step of so many right pairs makes until the optimiser's turn.

        A wrong pair makes as many, but for the loss of answers, which it has none of.
        """
        objective = self._modules.objective
        planned = self._planned
        step = planned.train_step(self._modules, pairs, CPU)
        batch = planned.batch(pairs, CPU, objective, wrong=False)
        self._set_gradients(there=adds)
        bounds: list[int] = []

        def note(*_: object) -> None:
            bounds.append(len(live.sizes))

        def note_loss(_: object, arguments: tuple[torch.Tensor, object]) -> None:
            note()
            # a gradient that arrives at the logits has left the objective
            arguments[0].register_hook(note)  # type: ignore[no-untyped-call]

        with ExitStack() as hooks, LiveTensors() as live:
            for part in objective.objectives.values():
                hooks.enter_context(part.register_forward_pre_hook(note_loss))
            step.add_gradient(batch)
        forwards, backwards = bounds[0], bounds[len(objective.objectives)]
        gradients = [p.grad for p in self._modules.parameters if p.grad is not None]
        return Allocations.recorded(live, gradients, slice(forwards, backwards))
