"""Optimisers by name."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from ..featcache.registry import unknown_name


def _lion(groups: list[dict[str, Any]], *, lr: float) -> Optimizer:
    """Build Lion (Chen et al. 2023, arXiv 2302.06675, algorithm 2), which PyTorch lacks."""
    from timm.optim.lion import Lion  # imports all of timm, which no other optimiser needs

    built: Optimizer = Lion(groups, lr=lr)
    return built


_OPTIMISERS: Mapping[str, Callable[..., Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "lion": _lion,
}


def build_optimiser(name: str, groups: list[dict[str, Any]], *, learning_rate: float) -> Optimizer:
    """Build the optimiser called `name` for groups of parameters.

    Raises:
        UnknownNameError: No optimiser is called so.
    """
    if name not in _OPTIMISERS:
        raise unknown_name("optimiser", name, _OPTIMISERS)
    return _OPTIMISERS[name](groups, lr=learning_rate)
