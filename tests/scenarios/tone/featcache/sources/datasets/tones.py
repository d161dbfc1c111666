"""Tones of one to seven cycles, the first without samples."""

from ...links import Links
from ...modalities.tone import wave
from ...types import Item, Modality
from ..base import Source, Split


class _Tones(Split):
    modalities = (Modality("tone"),)

    def ids(self, modality):
        return [f"tone-{cycles}" for cycles in range(8)]

    def item(self, modality, position):
        # a longer one before a shorter one, so that sorting by length changes the order
        return Item(id=f"tone-{position}", data=wave(position, position and 8 - position))

    def pairs(self):
        return Links.of({side: self.ids(side) for side in self.modalities})


class TonesSource(Source):
    """Sound a few tones."""

    title = "Sine waves; needs no files"
    needs_files = False

    def __init__(self, place):
        super().__init__(place, {"test": _Tones()})
