"""Tones of one to seven cycles, the first without samples, and what people say of each."""

from ...links import Links
from ...modalities.tone import wave
from ...types import Item, Modality
from ..base import Source, Split

TONE = Modality("tone")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")


class _Tones(Split):
    modalities = (TONE, Modality.TEXT)

    def __init__(self, start=""):
        self.start = start  # of each id

    def ids(self, modality):
        if modality is TONE:
            return [f"{self.start}tone-{cycles}" for cycles in range(8)]
        return [f"{self.start}text-{cycles}-{number}" for cycles in range(8) for number in range(2)]

    def item(self, modality, position):
        name = self.ids(modality)[position]
        if modality is TONE:
            # a longer one before a shorter one, so that sorting by length changes the order
            return Item(id=name, data=wave(position, position and 8 - position))
        cycles, number = divmod(position, 2)
        texts = f"a tone of {NUMBERS[cycles]}", f"{NUMBERS[cycles]} waves in each frame"
        return Item(id=name, text=texts[number])

    def pairs(self):
        tones, texts = self.ids(TONE), self.ids(Modality.TEXT)
        # texts first: the order of the sides is none of the dataset's business
        linked = [(text, tones[position // 2]) for position, text in enumerate(texts)]
        return Links.of({TONE: tones, Modality.TEXT: texts}, {(Modality.TEXT, TONE): linked})


class TonesSource(Source):
    """Sound a few tones."""

    title = "Sine waves; needs no files"
    needs_files = False

    def __init__(self, place):
        super().__init__(place, {"train": _Tones("train-"), "test": _Tones()})
