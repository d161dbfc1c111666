"""Run three training steps on random features and say how much memory they took."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from ..adapters.gradcache import Load, backward_in_chunks
from ..adapters.objective import PairBatch
from ..featcache.tokens import Tokens
from ..featcache.types import Side
from .arithmetic import resolve_precision
from .batches import load_ahead
from .memory_model import made_up_queue, made_up_teacher
from .own_memory import OwnMemory
from .planned_step import PlannedStep
from .shapes import InputShape
from .trainable import build_trainable

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
    with OwnMemory() as own:
        take_steps(step)
    return own.bytes


def take_steps(step: PlannedStep) -> None:
    """Take three steps, each of the gradients of as many batches as the options say."""
    device, options, shape = torch.device(step.device), step.options, step.shape
    trained = build_trainable(step.table, options, widths=shape.widths, seed=0, device=device)
    trained.adapter.train()
    dtype = resolve_precision(options.precision, device)

    def embed(tokens: Tokens, side: Side) -> torch.Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            return trained.adapter.embed(tokens.to(device), side)

    images = options.mixup.mixtures(options.batch_size)
    owner = torch.arange(shape.rows(shape.sides[1], images), device=device)
    owner = owner // shape.texts
    positives = owner[None, :] == torch.arange(images, device=device)[:, None]
    texts, width = len(owner), trained.adapter.out_width
    queue = made_up_queue(options.queue, width=width, images=images, texts=texts)
    remembered = None if queue is None else queue.to(device)
    needs = trained.objective.needs_teacher
    teacher = made_up_teacher(shape, images).to(device) if needs else None
    chunk = options.chunk_size
    batches = [
        [_loads(shape, side, images, chunk) for side in shape.sides]
        for _ in range(1 if chunk else shape.ready)
    ]
    for number in range(_STEPS * options.accumulate):
        batch = batches[number % len(batches)]
        if chunk:
            backward_in_chunks(
                embed,
                trained.objective,
                images=batch[0],
                texts=batch[1],
                positives=positives,
                sides=shape.sides,
                load_all=load_ahead,
                complete=partial(replace, remembered=remembered, teacher=teacher),
            )
        else:
            first, second = (
                torch.cat([embed(load(), side) for load in loads])
                for side, loads in zip(shape.sides, batch, strict=True)
            )
            pairs = PairBatch(first, second, positives, remembered, teacher, sides=shape.sides)
            torch.autograd.backward(trained.objective(pairs).total)
        if (number + 1) % options.accumulate:
            continue
        if options.gradient_clip:
            nn.utils.clip_grad_norm_(trained.parameters, options.gradient_clip)
        trained.optimiser.step()
        trained.optimiser.zero_grad(set_to_none=True)
        if trained.average is not None:
            trained.average.update()


def _loads(shape: InputShape, side: Side, images: int, chunk: int) -> list[Load]:
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
