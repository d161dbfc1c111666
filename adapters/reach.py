"""What a gradient must reach: the parameters of one side of an adapter, and whether it does."""

from collections.abc import Mapping

from torch import nn

from ..featcache.errors import GradientError
from ..featcache.types import Side
from .adapter import Adapter
from .context import Context, DirectContext


def side_parameters(adapter: Adapter, side: Side) -> dict[str, nn.Parameter]:
    """Return by name all trainable parameters of the steps that the tokens of `side` go through.

    Of a context, which holds the vectors of both sides, that of `side` alone.
    """
    found: dict[str, nn.Parameter] = {}
    for name in adapter.paths[side]:
        step = adapter.steps[name]
        others = {
            id(vector)
            for part in step.modules()
            if isinstance(part, Context | DirectContext)
            for owner, vector in part.vectors.items()
            if owner != side.value
        }
        found |= {
            f"{name}.{own}": parameter
            for own, parameter in step.named_parameters()
            if parameter.requires_grad and id(parameter) not in others
        }
    return found


def shared_steps(adapter: Adapter, side: Side) -> list[str]:
    """Return the names of the steps of `side` with parameters that the other side has, too."""
    others = {name for one, names in adapter.paths.items() if one is not side for name in names}
    return [
        name
        for name in adapter.paths[side]
        if name in others and any(True for _ in adapter.steps[name].parameters())
    ]


def require_gradients(parameters: Mapping[str, nn.Parameter]) -> dict[str, float]:
    """Return the largest absolute gradient of each parameter after a backward pass.

    Args:
        parameters: All that is called trained, by name.

    Raises:
        GradientError: One of them has no gradient, or a gradient of nothing but zeros.
    """
    largest = {
        name: 0.0 if parameter.grad is None else float(parameter.grad.abs().max())
        for name, parameter in parameters.items()
    }
    cut_off = [name for name, value in largest.items() if value == 0.0]
    if cut_off:
        raise GradientError(
            f"no gradient reaches {len(cut_off)} of {len(largest)} parameters that are to be "
            f"trained: {cut_off[:5]}; a step detaches them, or they change nothing on such "
            "features, as attention over a single token: train another preset or other features"
        )
    return largest
