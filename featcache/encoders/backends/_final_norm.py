"""Find the norm that a vision model applies to its pooled vector only."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ._transformers import last_state

_CLOSE = 1e-5  # difference to a selection of the tokens, relative to their largest value


@dataclass(frozen=True)
class _Normed:
    path: str
    before: Tensor
    after: Tensor


@torch.inference_mode()
def norm_of_pooled(model: Any, images: Tensor, *, prefix: int, **inputs: Any) -> str | None:
    """Return the path of the norm through which the pooled vector goes and no token, or None.

    Its input is the first token or a mean of the tokens that `model` gives, and those come from no
    norm themselves.

    Args:
        model: A vision model of transformers.
        images: A batch that it reads.
        prefix: Tokens before the grid.
        inputs: What else it reads.
    """
    with _normed(model) as calls:
        last = last_state(model(pixel_values=images, **inputs), type(model).__name__)
    if any(_equal(call.after, last) for call in calls):
        return None
    summaries = _summaries(last, prefix)
    scale = last.abs().max()
    for call in calls:
        vector = call.before.reshape(len(last), -1)
        for summary in summaries:
            same_shape = vector.shape == summary.shape
            if same_shape and (vector - summary).abs().max() <= _CLOSE * scale:
                return call.path
    return None


def _summaries(last: Tensor, prefix: int) -> list[Tensor]:
    if last.ndim == 4:
        return [last.mean(dim=(2, 3)), last.mean(dim=(1, 2))]
    return [last[:, 0], last.mean(dim=1), last[:, prefix:].mean(dim=1)]


def _equal(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and torch.equal(one, other))


@contextmanager
def _normed(model: nn.Module) -> Iterator[list[_Normed]]:
    """Yield a list that holds what went into and came out of each norm, as `model` runs."""
    calls: list[_Normed] = []

    def record(path: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                calls.append(_Normed(path, inputs[0], output))

        return hook

    hooks = [
        module.register_forward_hook(record(path))
        for path, module in model.named_modules()
        if "norm" in type(module).__name__.lower() and not list(module.children())
    ]
    try:
        yield calls
    finally:
        for handle in hooks:
            handle.remove()
