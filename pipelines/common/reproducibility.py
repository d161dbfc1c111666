"""Precision, seed and determinism of a training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...featcache.hardware import has_fast_bfloat16


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of matrix products; `auto` is bfloat16 where the device has units for it."""
    if name != "auto":
        return {
            "float32": torch.float32,
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
        }[name]
    return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32


@contextmanager
def seeded(seed: int, *, device: torch.device, deterministic: bool) -> Iterator[None]:
    """Seed torch within the block, and restore its state afterwards.

    Args:
        seed: The seed.
        device: Where the block computes, besides the CPU.
        deterministic: Whether to allow operations of one result only; others then raise an error.
    """
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(deterministic or before)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
