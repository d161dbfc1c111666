"""Random numbers of one seed within a block, and of no consequence outside."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, *, device: torch.device, deterministic: bool) -> Iterator[None]:
    """Seed what is random within the block, and leave it outside as it was.

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
