"""Drawn pictures of coloured shapes with true captions: a dataset that needs no files."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ...config import fingerprint
from ...errors import SpecError
from ...modalities.scene_captions import captions
from ...modalities.scene_pictures import draw_png
from ...modalities.scenes import Scene, draw_scenes
from ...registry import unknown_name
from ...types import Item, Modality, Pairs
from ..base import Source
from ..readers.lazy_items import LazyItems

DRAWING_VERSION = 1  # raise it with every change to scenes, pixels or captions: it is in the key

# Bounds of each option, both included.
_SCENES = (1, 50_000)  # a split: val, the smallest part of scene space, holds well over a million
_SEEDS = (0, 2**63 - 1)  # what TOML can write
_PIXELS = (32, 1024)  # below 32 the small shapes are blots


class ShapesSource(Source):
    """Draw two or three coloured shapes in a spatial relation, with five captions a picture.

    Captions are true of the picture and complete: size, colour and kind of every shape, how they
    stand, and the background. No scene appears in two splits, whatever the seeds. A split's scenes
    depend on the seed and the split alone, and fewer of them are the first of more. Pictures are
    drawn when an item is asked for.

    Args:
        root: Ignored.
        train: Pictures in `train`.
        val: Pictures in `val`.
        test: Pictures in `test`.
        seed: Chooses the scenes.
        size: Width and height of the pictures in pixels.

    Raises:
        SpecError: An option is no integer or out of range.
    """

    title = "Drawn shapes in spatial relations, five captions each; needs no files"
    needs_files = False

    def __init__(
        self,
        root: Path,
        *,
        train: int = 1000,
        val: int = 100,
        test: int = 500,
        seed: int = 0,
        size: int = 224,
    ) -> None:
        super().__init__(root)
        counts = {"train": train, "val": val, "test": test}
        for name, count in counts.items():
            _check_range(name, count, _SCENES)
        _check_range("seed", seed, _SEEDS)
        _check_range("size", size, _PIXELS)
        self._counts = counts
        self._seed = seed
        self._size = size
        self._scenes: dict[str, list[Scene]] = {}

    def splits(self) -> tuple[str, ...]:
        """Return train, val and test."""
        return tuple(self._counts)

    def scenes(self, split: str) -> Sequence[Scene]:
        """Return what the pictures of one split show, in item order.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        count = self._count(split)
        if split not in self._scenes:
            self._scenes[split] = draw_scenes(split, count, seed=self._seed)
        return self._scenes[split]

    def items(self, split: str, modality: Modality) -> Sequence[Item]:
        """Return the items of one split; a picture is drawn each time its item is asked for.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        scenes = self.scenes(split)
        if modality is Modality.IMAGE:
            return LazyItems(len(scenes), partial(self._picture, split, scenes))
        return [
            Item(id=f"{_image_id(split, index)}#{number}", text=caption)
            for index, scene in enumerate(scenes)
            for number, caption in enumerate(captions(scene))
        ]

    def ids(self, split: str, modality: Modality) -> Sequence[str]:
        """Return the ids of `items`, without drawing any picture.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        if modality is not Modality.IMAGE:
            return super().ids(split, modality)
        return [_image_id(split, index) for index in range(len(self.scenes(split)))]

    def pairs(self, split: str) -> Pairs:
        """Return which pictures and captions of one split belong together.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        image_ids = tuple(_image_id(split, index) for index in range(len(self.scenes(split))))
        text_ids = tuple(item.id for item in self.items(split, Modality.TEXT))
        return Pairs(image_ids, text_ids, tuple((text.split("#")[0], text) for text in text_ids))

    def fingerprint(self, split: str) -> str:
        """Return a hash of the drawing version and the options that decide one split.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        options = {"count": self._count(split), "seed": self._seed, "size": self._size}
        return fingerprint({"drawing": DRAWING_VERSION, "split": split, **options})

    def _picture(self, split: str, scenes: Sequence[Scene], position: int) -> Item:
        picture = draw_png(scenes[position], self._size)
        return Item(id=_image_id(split, position), data=picture)

    def _count(self, split: str) -> int:
        if split not in self._counts:
            raise unknown_name("split", split, self._counts)
        return self._counts[split]


def _image_id(split: str, index: int) -> str:
    return f"shapes-{split}-{index:06d}"


def _check_range(name: str, value: int, bounds: tuple[int, int]) -> None:
    lowest, highest = bounds
    if type(value) is not int or not lowest <= value <= highest:
        raise SpecError(
            f"shapes: {name} must be an integer from {lowest:,} to {highest:,}, found {value!r}"
        )
