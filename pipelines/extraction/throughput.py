"""Batch size and overlap that make an extraction fast on this machine."""

from collections.abc import Sequence

import torch

from ...featcache.hardware import free_memory, resolve_device
from ..common.progress import SILENT, Progress
from .loaded_encoder import LoadedEncoder
from .spec import ExtractSpec

# more are no faster
_BATCH_SIZES = {"cpu": 32, "cuda": 256}
# from here on the cores that decoding takes are few among many
_CORES_A_WORKER = 4
# of what is free: operations need memory that no probe sees
_MEMORY_SHARE = 0.5


def overlaps(spec: ExtractSpec) -> bool:
    """Return whether preparing items while encoders run is faster.

    On few cores they are not: each thread that decodes takes the core of one that computes, and
    the others of a matrix product wait for that one.
    """
    on_cpu = resolve_device(spec.device).type == "cpu"
    return not on_cpu or torch.get_num_threads() > _CORES_A_WORKER * spec.workers


def fitting_batch_size(
    loaded: Sequence[LoadedEncoder], device_name: str, progress: Progress = SILENT
) -> int:
    """Return the batch size that is fast on the device, or half of it until it fits the memory."""
    device = resolve_device(device_name)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    largest = max(loaded, key=lambda loaded_encoder: loaded_encoder.item_bytes)
    usual = size = _BATCH_SIZES[device.type]
    while size > 1 and size * largest.item_bytes > _MEMORY_SHARE * free:
        size //= 2
    if size < usual:
        progress.note(
            f"batch size {size} instead of {usual}: one item takes up to "
            f"{largest.item_bytes / 1e6:.0f} MB in {largest.encoder.name}, "
            f"{free / 1e9:.1f} GB are free"
        )
    return size
