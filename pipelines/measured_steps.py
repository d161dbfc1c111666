"""Run three training steps on random features and say how much memory they took."""

import json
import resource
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..adapters.adapter import build_adapter, parameter_groups
from ..adapters.gradcache import Load, backward_in_chunks
from ..adapters.objective import PairBatch, build_objective
from ..featcache.spec import build
from ..featcache.tokens import Tokens
from ..featcache.types import Modality
from .averaging import MovingAverage
from .batches import load_ahead
from .loop import resolve_precision
from .optimisers import build_optimiser
from .plan import InputShape
from .train import TrainOptions

_STEPS = 3
_STATUS = Path("/proc/self/status")


def main() -> None:
    """Read a task as JSON from standard input and write the peak as JSON."""
    task = json.load(sys.stdin)
    json.dump({"peak": measure(task)}, sys.stdout)


def measure(task: dict[str, Any]) -> int:
    """Return the bytes that three steps take at most, above what this process has without them."""
    device = torch.device(task["device"])
    options = build(TrainOptions, task["options"], where="[train]")
    small = {**task["options"], "batch_size": 2, "chunk_size": min(options.chunk_size, 1)}
    _take_steps(task, build(TrainOptions, small, where="[train]"), device)  # loads libraries
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _take_steps(task, options, device)
        return torch.cuda.max_memory_allocated(device) - before
    before = _resident("VmRSS")
    if _STATUS.is_file():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
    _take_steps(task, options, device)
    return _resident("VmHWM") - before


def _take_steps(task: dict[str, Any], options: TrainOptions, device: torch.device) -> None:
    shape = InputShape(
        tokens={Modality(key): value for key, value in task["shape"]["tokens"].items()},
        widths={Modality(key): value for key, value in task["shape"]["widths"].items()},
        texts=task["shape"]["texts"],
        feature_bytes=task["shape"]["feature_bytes"],
    )
    adapter = build_adapter(task["towers"], widths=shape.widths, seed=0).to(device).train()
    objective = build_objective(task["objective"]).to(device)
    groups = parameter_groups(
        adapter, objective, weight_decay=options.weight_decay, decay_all=options.decay_all
    )
    optimiser = build_optimiser(options.optimiser, groups, learning_rate=options.learning_rate)
    average = MovingAverage([adapter, objective], decay=options.ema) if options.ema else None
    dtype = resolve_precision(options.precision, device)

    def embed(tokens: Tokens, modality: Modality) -> torch.Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            return adapter.embed(tokens.to(device), modality)

    images = options.batch_size
    texts = shape.rows(Modality.TEXT, images)
    owner = torch.arange(texts, device=device) // shape.texts
    positives = owner[None, :] == torch.arange(images, device=device)[:, None]
    chunk = options.chunk_size
    batches = [
        {m: _loads(shape, m, images, chunk) for m in (Modality.IMAGE, Modality.TEXT)}
        for _ in range(1 if chunk else _STEPS)  # two batches are made ready meanwhile
    ]
    for step in range(_STEPS):
        batch = batches[step % len(batches)]
        if chunk:
            backward_in_chunks(
                embed,
                objective,
                images=batch[Modality.IMAGE],
                texts=batch[Modality.TEXT],
                positives=positives,
                load_all=load_ahead,
            )
        else:
            image, text = (
                torch.cat([embed(load(), modality) for load in loads])
                for modality, loads in batch.items()
            )
            torch.autograd.backward(objective(PairBatch(image, text, positives)).total)
        parameters = [*adapter.parameters(), *objective.parameters()]
        nn.utils.clip_grad_norm_(parameters, options.gradient_clip or 1e9)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if average is not None:
            average.update()


def _loads(shape: InputShape, modality: Modality, images: int, chunk: int) -> list[Load]:
    """Return what loads each chunk of a batch, or a whole batch that is in memory already."""
    rows = shape.rows(modality, images)
    tokens, width = shape.tokens[modality], shape.widths[modality]
    make: Callable[[int], Tokens] = partial(
        _random, tokens=tokens, width=width, half=shape.feature_bytes == 2
    )
    if chunk:
        return [partial(make, min(chunk, rows - first)) for first in range(0, rows, chunk)]
    whole = make(rows)
    return [lambda: whole]


def _random(rows: int, *, tokens: int, width: int, half: bool) -> Tokens:
    values = torch.empty(rows, tokens, width, dtype=torch.float16 if half else torch.float32)
    return Tokens(values.normal_(), torch.ones(rows, tokens, dtype=torch.bool))


def _resident(name: str) -> int:
    if not _STATUS.is_file():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes
    _, _, rest = _STATUS.read_text(encoding="ascii").partition(f"{name}:")
    return int(rest.split()[0]) * 1024
