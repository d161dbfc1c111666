"""Tones of one to seven cycles, the first without samples, and what people say of each."""

from ...links import Links
from ...modalities.tone import wave
from ...types import Item, Modality
from ..base import Source, Split

TONE = Modality("tone")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")


class _Tones(Split):
    modalities = (TONE, Modality.TEXT)

    def ids(self, modality):
        if modality is TONE:
            return [f"tone-{cycles}" for cycles in range(8)]
        return [f"text-{cycles}-{number}" for cycles in range(8) for number in range(2)]

    def item(self, modality, position):
        if modality is TONE:
            # a longer one before a shorter one, so that sorting by length changes the order
            return Item(id=f"tone-{position}", data=wave(position, position and 8 - position))
        cycles, number = divmod(position, 2)
        text = (f"a tone of {NUMBERS[cycles]}", f"{NUMBERS[cycles]} waves in each frame")[number]
        return Item(id=f"text-{cycles}-{number}", text=text)

    def pairs(self):
        texts = self.ids(Modality.TEXT)
        # texts first: the order of the sides is none of the dataset's business
        linked = [(text, f"tone-{text.split('-')[1]}") for text in texts]
        ids = {side: self.ids(side) for side in self.modalities}
        return Links.of(ids, {(Modality.TEXT, TONE): linked})


class TonesSource(Source):
    """Sound a few tones."""

    title = "Sine waves; needs no files"
    needs_files = False

    def __init__(self, place):
        super().__init__(place, {"train": _Tones(), "test": _Tones()})
