"""Drawn pictures of coloured shapes with true captions: a dataset that needs no files."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ...config import fingerprint
from ...errors import SpecError
from ...links import Links, compact
from ...modalities.pictures.scene_captions import NUM_CAPTIONS, captions
from ...modalities.pictures.scene_pictures import draw_png
from ...modalities.pictures.scenes import Scene, draw_scenes
from ...string_array import Strings
from ...types import IMAGE_TEXT, Item, Modality
from ..base import Source, Split

DRAWING_VERSION = 1  # raise it with every change to scenes, pixels or captions: it is in the key

# Bounds of each option, both included.
_SCENES = (1, 50_000)  # a split: val, the smallest part of scene space, holds well over a million
_SEEDS = (0, 2**63 - 1)  # what TOML can write
_PIXELS = (32, 1024)  # below 32 the small shapes are blots


@dataclass(frozen=True, kw_only=True)
class ShapesOptions:
    """Options of the drawn shapes.

    Attributes:
        train: Pictures in `train`.
        val: Pictures in `val`.
        test: Pictures in `test`.
        seed: Chooses the scenes.
        size: Width and height of the pictures in pixels.

    Raises:
        SpecError: One is no integer or out of range.
    """

    train: int = 1000
    val: int = 100
    test: int = 500
    seed: int = 0
    size: int = 224

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            lowest, highest = {"seed": _SEEDS, "size": _PIXELS}.get(name, _SCENES)
            if type(value) is not int or not lowest <= value <= highest:
                bounds = f"from {lowest:,} to {highest:,}"
                raise SpecError(f"shapes: {name} must be an integer {bounds}, found {value!r}")


class _DrawnSplit(Split):
    """Scenes of one split; a picture is drawn each time its item is asked for."""

    modalities = (Modality.IMAGE, Modality.TEXT)

    def __init__(self, name: str, count: int, options: ShapesOptions) -> None:
        self._name = name
        self._count = count
        self._options = options

    @cached_property
    def scenes(self) -> Sequence[Scene]:
        return draw_scenes(self._name, self._count, seed=self._options.seed)

    def ids(self, modality: Modality) -> Sequence[str]:
        images = [self._image_id(index) for index in range(self._count)]
        if modality is Modality.IMAGE:
            return images
        return [f"{image}#{number}" for image in images for number in range(NUM_CAPTIONS)]

    def item(self, modality: Modality, position: int) -> Item:
        if modality is Modality.IMAGE:
            data = draw_png(self.scenes[position], self._options.size)
            return Item(id=self._image_id(position), data=data)
        index, number = divmod(position, NUM_CAPTIONS)
        text = captions(self.scenes[index])[number]
        return Item(id=f"{self._image_id(index)}#{number}", text=text)

    def pairs(self) -> Links:
        texts = np.arange(self._count * NUM_CAPTIONS)
        places = compact(np.stack([texts // NUM_CAPTIONS, texts], axis=1))
        return Links(
            {side: Strings.of(self.ids(side)) for side in IMAGE_TEXT}, {IMAGE_TEXT: places}
        )

    def fingerprint(self) -> str:
        options = {"count": self._count, "seed": self._options.seed, "size": self._options.size}
        return fingerprint({"drawing": DRAWING_VERSION, "split": self._name, **options})

    def _image_id(self, index: int) -> str:
        return f"shapes-{self._name}-{index:06d}"


class ShapesSource(Source):
    """Draw two or three coloured shapes in a spatial relation, with five captions a picture.

    Captions are true of the picture and complete: size, colour and kind of every shape, how they
    stand, and the background. No scene appears in two splits, whatever the seeds. A split's scenes
    depend on the seed and the split alone, and fewer of them are the first of more. Pictures are
    drawn when an item is asked for.

    Args:
        root: Ignored.
        options: See `ShapesOptions`.
    """

    title = "Drawn shapes in spatial relations, five captions each; needs no files"
    needs_files = False
    Options = ShapesOptions

    def __init__(self, root: Path, options: ShapesOptions) -> None:
        counts = {"train": options.train, "val": options.val, "test": options.test}
        splits = {name: _DrawnSplit(name, count, options) for name, count in counts.items()}
        super().__init__(root, splits)

    def scenes(self, split: str) -> Sequence[Scene]:
        """Return what the pictures of one split show, in item order.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        return self._drawn(split).scenes

    def fingerprint(self, split: str) -> str:
        """Return a hash of the drawing version and the options that decide one split."""
        return self._drawn(split).fingerprint()

    def _drawn(self, split: str) -> _DrawnSplit:
        drawn = self._split(split)
        assert isinstance(drawn, _DrawnSplit)
        return drawn
