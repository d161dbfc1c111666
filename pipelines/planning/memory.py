"""Memory of a step that aligns two sides, of any size, from the tensors of three small ones.

A step makes the same tensors in the same order whatever its batch. Each takes bytes that stay the
same, as the gradient of a weight does, that grow with the images, or, where there is a number for
each pair of an image and a text, with their square. Real steps of 2, 3 and 4 images therefore tell
what every tensor of a step of many takes, and when it comes and goes; the peak is added up.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64

from ...adapters.adapter import Adapter
from ...adapters.objective import Loss, Objective, PairBatch
from ...featcache.encoders.memory import LiveTensors
from ...featcache.types import Side
from ..inputs.cached_steps import POOLING_BYTES
from ..inputs.pooled_shape import PooledShape
from ..training.modules import TrainingModules
from .allocations import ROWS, Allocations
from .spec import PeakMemory
from .step import PlannedStep
from .trained_memory import CPU, TrainedMemory

_LONG_QUEUE = 2**16
_FLOAT_BYTES = 4  # of a number of an embedding or a logit, in any precision


class StepMemory(TrainedMemory):
    """Memory of a planned step that aligns two sides."""

    _planned: PlannedStep
    _modules: TrainingModules[Adapter, Objective]

    def __init__(self, planned: PlannedStep) -> None:
        unpaired = planned.unpaired
        self._unpaired: tuple[StepMemory, int] | None = None
        if unpaired is not None:
            self._unpaired = StepMemory(unpaired), unpaired.options.batch_size
        planned = planned if planned.is_unpaired else planned.paired
        super().__init__(planned)
        modules = self._modules
        self._queue = queue = planned.options.queue
        # the objective, or the one that it holds
        parts = [part for part in modules.objective.modules() if isinstance(part, Objective)]
        self._blocked = next((part for part in parts if part.most_logits is not None), None)
        if self._blocked is not None and (most_logits := self._blocked.most_logits) is not None:
            # of a longer one large steps make their loss in blocks, all of one size; so might small
            # steps, and then not all three in the same tensors
            texts = ROWS[-1] * planned.shape.texts
            queue = min(queue, _LONG_QUEUE, max(1, most_logits // texts - texts))
        options = replace(planned.options, chunk_size=0, queue=queue)
        self._planned = replace(planned, options=options)
        with torch.random.fork_rng(devices=[]):
            self._step = Allocations.fitted([self._record_step(images) for images in ROWS])

    def peak(self, batch_size: int, chunk_size: int) -> PeakMemory:
        """Return what is in memory at the peak of a step; a part of a step stands for the whole."""
        rows = self._planned.shape.rows(batch_size)
        moments = self._in_chunks(rows, chunk_size) if chunk_size else self._in_one(rows)
        peak = max(moments, key=lambda moment: moment.total)
        if self._unpaired is None:
            return peak
        # one after the other, but the features of both are at hand
        unpaired, size = self._unpaired
        other = unpaired.peak(size, chunk_size)
        features = max if chunk_size else int.__add__
        larger = max(peak, other, key=lambda part: part.total)
        return replace(larger, features=features(peak.features, other.features), pooled=peak.pooled)

    def _most_rows(self, batch_size: int) -> int:
        return max(self._planned.shape.rows(batch_size).values())

    def _in_one(self, rows: Mapping[Side, int]) -> Iterator[PeakMemory]:
        """Yield what is in memory when most is of the whole batch's graph, and at the end."""
        shape, step = self._planned.shape, self._step
        features = sum(count * shape.row_bytes(side) for side, count in rows.items())
        # one moment, not the sum of the most of each part: gradients come while activations go
        there = step.at_peak(self._bytes_of_step(rows))
        gradients, loss = (int(there[which].sum()) for which in (step.is_gradient, step.is_loss))
        activations = int(there.sum()) - gradients - loss
        yield self._moment(rows, features, gradients, activations, loss)
        yield self._moment(rows, features, self._gradients, self._updating)

    def _in_chunks(self, rows: Mapping[Side, int], chunk_size: int) -> Iterator[PeakMemory]:
        """Yield what is in memory when the loss is known, in the last chunk, and at the end."""
        shape, step = self._planned.shape, self._step
        chunks = {side: min(chunk_size, count) for side, count in rows.items()}
        features = max(count * shape.row_bytes(side) for side, count in chunks.items())
        num_chunks = sum(-(-count // chunk_size) for count in rows.values())
        # a chunk is embedded twice, each time from the same random state, which is kept until then
        states = num_chunks * torch.get_rng_state().nbytes
        embeddings = self._bytes_of_embeddings(rows)
        loss = int(step.at_peak(self._bytes_of_step(rows) * step.is_loss).sum())
        yield self._moment(rows, features, 0, 0, loss + 2 * embeddings + states)
        embedding = max(
            int(tensors.at_peak(tensors.num_bytes(chunks[side])).sum())
            for side, tensors in self._embedding.items()
        )
        # embeddings of each chunk, joined, and the gradient of each
        held = 3 * embeddings + states
        yield self._moment(rows, features, self._gradients, embedding, held)
        yield self._moment(rows, features, self._gradients, self._updating)

    def _moment(
        self,
        rows: Mapping[Side, int],
        features: int,
        gradients: int,
        activations: int,
        loss: int = 0,
    ) -> PeakMemory:
        """Return the memory of one moment, with what is there all the time."""
        shape, queue = self._planned.shape, self._queue
        first, second = rows.values()
        # a byte for each pair that says who belongs to whom, of a block where they are many
        pairs = first * second
        if (most_logits := self._modules.objective.most_logits) is not None:
            pairs = min(pairs, most_logits)
        loss += pairs + (first + second) * queue
        loss += 2 * queue * self._modules.adapter.out_width * _FLOAT_BYTES
        if self._modules.objective.needs_teacher:
            widths = self._planned.teacher_widths
            loss += sum(count * widths[side] for side, count in rows.items()) * _FLOAT_BYTES
        return PeakMemory(
            weights=self._weights,
            gradients=self._gradients if self._accumulates else gradients,
            optimiser=self._optimiser,
            features=shape.ready * features,
            activations=activations,
            loss=loss,
            pooled=pooled_bytes(shape.pooled.values()),
        )

    @cached_property
    def _embedding(self) -> dict[Side, Allocations]:
        """Tensors that a chunk of each side makes."""
        with torch.random.fork_rng(devices=[]):
            return {
                side: Allocations.fitted([self._record_chunk(side, rows) for rows in ROWS[:2]])
                for side in self._planned.shape.sides
            }

    def _bytes_of_step(self, rows: Mapping[Side, int]) -> Int64[np.ndarray, " tensors"]:
        num_bytes = self._step.num_bytes(rows[self._planned.shape.sides[0]])
        if self._blocked is None or self._blocked.most_logits is None:
            return num_bytes
        # a loss that is made in blocks has no more logits than that in one tensor
        most = max(self._blocked.most_logits * _FLOAT_BYTES, self._bytes_of_embeddings(rows))
        return np.where(self._step.is_block, np.minimum(num_bytes, most), num_bytes)

    def _bytes_of_embeddings(self, rows: Mapping[Side, int]) -> int:
        return sum(rows.values()) * self._modules.adapter.out_width * _FLOAT_BYTES

    def _record_step(self, images: int) -> Allocations:
        """Return the tensors that a step of so many images makes until the optimiser's turn."""
        objective = self._modules.objective
        step = self._planned.train_step(self._modules, images, CPU)
        batch = self._planned.batch(images, CPU, objective)
        self._set_gradients(there=self._accumulates)
        loss_bounds: list[int] = []
        block_bounds: list[int] = []

        def note(*_: object) -> None:
            loss_bounds.append(len(live.sizes))

        def note_block(*_: object) -> None:
            block_bounds.append(len(live.sizes))

        def note_blocked(_: object, __: object, loss: Loss) -> None:
            note_block()
            loss.total.register_hook(note_block)  # type: ignore[no-untyped-call]

        def note_loss(_: object, arguments: tuple[PairBatch]) -> None:
            note()
            for embeddings in (arguments[0].first, arguments[0].second):
                # a gradient that arrives at the embeddings has left the objective
                if embeddings.requires_grad:
                    embeddings.register_hook(note)  # type: ignore[no-untyped-call]

        with ExitStack() as hooks, LiveTensors() as live:
            hooks.enter_context(objective.register_forward_pre_hook(note_loss))
            if self._blocked is not None:
                hooks.enter_context(self._blocked.register_forward_pre_hook(note_block))
                hooks.enter_context(self._blocked.register_forward_hook(note_blocked))
            step.add_gradient(batch)
        # the first of them ends the loss: the other side's gradient arrives much later
        start, end = [*loss_bounds, len(live.sizes)][:2]
        # forwards and, from when its gradient is asked for, backwards
        bounds = [*block_bounds, end]
        blocks = [slice(*bounds[:2]), slice(*bounds[2:4])] if block_bounds else []
        gradients = [p.grad for p in self._modules.parameters if p.grad is not None]
        return Allocations.recorded(live, gradients, slice(start, end), blocks)

    def _record_chunk(self, side: Side, rows: int) -> Allocations:
        """Return the tensors that a chunk makes whose gradient is added to that of others."""
        step = self._planned.train_step(self._modules, rows, CPU)
        inputs = self._planned.shape.random_rows(side, rows)
        self._set_gradients(there=True)
        with LiveTensors() as live:
            embedded = step.embed(inputs, side)
            torch.autograd.backward(embedded, torch.ones_like(embedded))
        return Allocations.recorded(live)


def pooled_bytes(shapes: Collection[PooledShape]) -> int:
    """Return the bytes of rows that are pooled once, and of what pooling some of them takes."""
    return sum(shape.num_bytes for shape in shapes) + (POOLING_BYTES if shapes else 0)
