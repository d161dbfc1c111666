"""Parameters of one side of an adapter that a gradient must reach, and the check that it does."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from ..featcache.errors import GradientError
from ..featcache.types import Side
from .adapter import Adapter
from .context import Context, DirectContext

# of the largest gradient, in float32: what cancels leaves up to 2e-8 of it, what does not 1e-4
_ROUNDING = 1e-6


def side_parameters(adapter: Adapter, side: Side) -> dict[str, nn.Parameter]:
    """Return by name all trainable parameters of the steps that the tokens of `side` go through.

    Of a context, which holds the vectors of both sides, that of `side` alone.
    """
    parameters: dict[str, nn.Parameter] = {}
    for name in adapter.steps_of(side):
        step = adapter.steps[name]
        others = {
            id(vector)
            for part in step.modules()
            if isinstance(part, Context | DirectContext)
            for owner, vector in part.vectors.items()
            if owner != side.value
        }
        parameters |= {
            f"{name}.{parameter_name}": parameter
            for parameter_name, parameter in step.named_parameters()
            if parameter.requires_grad and id(parameter) not in others
        }
    return parameters


def shared_steps(adapter: Adapter, side: Side) -> list[str]:
    """Return the names of the steps of `side` with parameters that the other side has, too."""
    others = {
        name for other in adapter.paths if other is not side for name in adapter.steps_of(other)
    }
    return [
        name
        for name in adapter.steps_of(side)
        if name in others and any(True for _ in adapter.steps[name].parameters())
    ]


@dataclass(frozen=True)
class Reached:
    """Parameters that a gradient reaches, and those that it misses.

    Attributes:
        largest: Largest absolute gradient of each parameter that is reached, by name.
        missed: Names of the others, in order.
    """

    largest: Mapping[str, float]
    missed: tuple[str, ...]


def require_gradients(parameters: Mapping[str, nn.Parameter]) -> Reached:
    """Return which parameters are reached after a backward pass, of every step some.

    A parameter may be missed where it cancels, as a bias does that all tokens of a softmax share;
    rounding then leaves a gradient that is not zero but far smaller than any other.

    Args:
        parameters: What is to be trained, by name; what stands before the first dot is the step.

    Raises:
        GradientError: No parameter of a step is reached.
    """
    largest = {
        name: 0.0 if parameter.grad is None else float(parameter.grad.abs().max())
        for name, parameter in parameters.items()
    }
    floor = _ROUNDING * max(filter(math.isfinite, largest.values()), default=0.0)
    missed = tuple(name for name, value in largest.items() if value <= floor)
    reached = {name: value for name, value in largest.items() if name not in missed}
    cut_off = sorted({_step(name) for name in missed} - {_step(name) for name in reached})
    if cut_off:
        unreached = [name for name in missed if _step(name) in cut_off]
        raise GradientError(
            f"no gradient reaches the steps {cut_off}, with {len(unreached)} of {len(largest)} "
            f"parameters that are to be trained: {unreached[:5]}; they are detached, or change "
            "nothing on such features, as attention over a single token: train another preset or "
            "other features"
        )
    return Reached(reached, missed)


def _step(name: str) -> str:
    return name.partition(".")[0]
