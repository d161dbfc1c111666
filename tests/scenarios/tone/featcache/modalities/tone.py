"""Tones: sine waves as float32 samples."""

import numpy as np

from ..errors import UnreadableItemError
from ..types import Item
from .base import PROBE_ITEMS, ModalityReader

FRAME = 16  # samples


class ToneModality(ModalityReader):
    """Read tones."""

    singular, plural = "tone", "tones"
    sorted_by_length = True
    usual_encoder = "spectrum"

    def read(self, item):
        samples = item.read_bytes()
        if not samples:
            raise UnreadableItemError(f"{item.id}: holds no samples")
        return np.frombuffer(samples, np.float32)

    def fingerprinted(self, item):
        return [item.id, item.data.hex()]

    def probe_items(self, count=PROBE_ITEMS):
        return [Item(id=f"probe-{number}", data=wave(number, 2)) for number in range(count)]


def wave(cycles, frames):
    """Return so many frames, each with so many cycles."""
    turns = cycles * np.arange(frames * FRAME) / FRAME
    return np.sin(2 * np.pi * turns).astype(np.float32).tobytes()
