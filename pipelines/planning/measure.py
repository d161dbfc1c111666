"""Run three training steps on random features and say how much memory they took."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from ...adapters.gradcache import LazyTokens
from ...adapters.objective import PairBatch, QueuedNegatives
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..common.reproducibility import resolve_precision
from ..inputs.pairs import BatchRows
from ..training.batches import Batch
from ..training.modules import build_trainable
from ..training.step import TrainStep
from .memory_model import made_up_queue, made_up_teacher
from .process_memory import ProcessMemory
from .shapes import InputShape
from .step import PlannedStep

_STEPS = 3


def main() -> None:
    """Read a step as JSON from standard input and write the peak as JSON."""
    step = PlannedStep.from_json(json.load(sys.stdin))
    json.dump({"peak": measure(step)}, sys.stdout)


def measure(step: PlannedStep) -> int:
    """Return the bytes that three steps take at most, above what this process has without them."""
    device = torch.device(step.device)
    few = replace(step.options, batch_size=2, chunk_size=min(step.options.chunk_size, 1))
    take_steps(replace(step, options=few))  # loads libraries
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        take_steps(step)
        return torch.cuda.max_memory_allocated(device) - before
    with ProcessMemory() as memory:
        take_steps(step)
    return memory.bytes


class _FullQueue:
    """Stand for a queue that is full and of which everything is a negative of every row."""

    def __init__(self, remembered: QueuedNegatives) -> None:
        self._remembered = remembered

    def recall(self, rows: BatchRows) -> QueuedNegatives:
        return self._remembered

    def add(self, rows: BatchRows, pairs: PairBatch) -> None:
        """Keep what is there, which takes as much memory as anything else."""


def take_steps(step: PlannedStep) -> None:
    """Take three steps, each of the gradients of as many batches as the options say."""
    device, options, shape = torch.device(step.device), step.options, step.shape
    trained = build_trainable(step.table, options, widths=shape.widths, seed=0, device=device)
    trained.adapter.train()
    images = options.mixup.mixtures(options.batch_size)
    texts = shape.rows(shape.sides[1], images)
    queue = made_up_queue(
        options.queue, width=trained.adapter.out_width, images=images, texts=texts
    )
    train_step = TrainStep(
        trained,
        options,
        sides=shape.sides,
        dtype=resolve_precision(options.precision, device),
        device=device,
        queue=None if queue is None else _FullQueue(queue.to(device)),
    )
    batches = _batches(shape, images, chunk=options.chunk_size, device=device)
    if trained.objective.needs_teacher:
        teacher = made_up_teacher(shape, images).to(device)
        batches = [replace(batch, teacher=teacher) for batch in batches]
    for number in range(_STEPS * options.accumulate):
        train_step.add_gradient(batches[number % len(batches)])
        if (number + 1) % options.accumulate == 0:
            train_step.take()


def _batches(shape: InputShape, images: int, *, chunk: int, device: torch.device) -> list[Batch]:
    """Return batches of random features, as many as are in memory at once."""
    owner = torch.arange(shape.rows(shape.sides[1], images), device=device) // shape.texts
    positives = owner[None, :] == torch.arange(images, device=device)[:, None]
    rows = BatchRows(np.arange(images), np.arange(len(owner)))
    first, second = shape.sides
    return [
        Batch(
            rows=rows,
            images=_loads(shape, first, images, chunk),
            texts=_loads(shape, second, images, chunk),
            positives=positives,
        )
        for _ in range(1 if chunk else shape.ready)
    ]


def _loads(shape: InputShape, side: Side, images: int, chunk: int) -> list[LazyTokens]:
    """Return what loads each chunk of a batch, or a whole batch that is in memory already."""
    rows = shape.rows(side, images)
    make: Callable[[int], Tokens] = partial(_random, shape=shape, side=side)
    if chunk:
        return [partial(make, min(chunk, rows - first)) for first in range(0, rows, chunk)]
    whole = make(rows)
    return [lambda: whole]


def _random(rows: int, *, shape: InputShape, side: Side) -> Tokens:
    tokens, width = shape.tokens[side], shape.widths[side]
    dtype = torch.float16 if shape.feature_bytes == 2 else torch.float32
    values = torch.empty(rows, tokens, width, dtype=dtype)
    return Tokens(values.normal_(), torch.ones(rows, tokens, dtype=torch.bool))
