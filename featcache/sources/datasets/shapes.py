"""Drawn pictures of coloured shapes with true texts about them: a dataset that needs no files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from ...answers import Answers
from ...config import fingerprint
from ...errors import SpecError
from ...links import ANSWERS, REGIONS, Label, Links, compact
from ...modalities.pictures.scene_captions import NUM_CAPTIONS, captions_with_mentions
from ...modalities.pictures.scene_phrases import phrases
from ...modalities.pictures.scene_pictures import draw_png, shape_boxes
from ...modalities.pictures.scene_questions import (
    ANSWER_LIST,
    NUM_QUESTIONS,
    SceneQuestion,
    questions,
)
from ...modalities.pictures.scenes import SHAPES, Scene, SceneText, draw_scenes
from ...regions import Regions
from ...string_array import Strings
from ...types import IMAGE_TEXT, Item, Modality
from ..base import Source, Split

DRAWING_VERSION = 1  # raise it with every change to scenes, pixels or texts: it is in the key

# Bounds of each option, both included.
_SCENES = (1, 50_000)  # a split: val, the smallest part of scene space, holds well over a million
_SEEDS = (0, 2**63 - 1)  # what TOML can write
_PIXELS = (32, 1024)  # below 32 the small shapes are blots

_CAPTIONS, _PHRASES, _QUESTIONS = "captions", "phrases", "questions"
_TEXTS_OF: dict[str, Callable[[Scene], Sequence[SceneText]]] = {
    _CAPTIONS: captions_with_mentions,
    _PHRASES: phrases,
    _QUESTIONS: questions,
}


@dataclass(frozen=True, kw_only=True)
class ShapesOptions:
    """Options of the drawn shapes.

    Attributes:
        train: Pictures in `train`.
        val: Pictures in `val`.
        test: Pictures in `test`.
        seed: Chooses the scenes.
        size: Width and height of the pictures in pixels.
        texts: Texts of a picture: five `captions`, `phrases` that name one shape each, or six
            `questions` with their answers.
        boxes: Whether captions come with the boxes of the shapes that they name; phrases and
            questions always do.

    Raises:
        SpecError: One is of another type or out of range.
    """

    train: int = 1000
    val: int = 100
    test: int = 500
    seed: int = 0
    size: int = 224
    texts: str = _CAPTIONS
    boxes: bool = False

    def __post_init__(self) -> None:
        if self.texts not in _TEXTS_OF:
            choices = f"{_CAPTIONS}, {_PHRASES} or {_QUESTIONS}"
            raise SpecError(f"shapes: texts must be {choices}, found {self.texts!r:.80}")
        for name in ("train", "val", "test", "seed", "size"):
            value = getattr(self, name)
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
        self._texts_of = _TEXTS_OF[options.texts]

    @cached_property
    def scenes(self) -> Sequence[Scene]:
        return draw_scenes(self._name, self._count, seed=self._options.seed)

    def ids(self, modality: Modality) -> Sequence[str]:
        images = [self._image_id(index) for index in range(self._count)]
        if modality is Modality.IMAGE:
            return images
        counts = np.diff(self._text_ends, prepend=0).tolist()
        return [
            f"{image}#{number}"
            for image, count in zip(images, counts, strict=True)
            for number in range(count)
        ]

    def item(self, modality: Modality, position: int) -> Item:
        if modality is Modality.IMAGE:
            data = draw_png(self.scenes[position], self._options.size)
            return Item(id=self._image_id(position), data=data)
        index = int(np.searchsorted(self._text_ends, position, side="right"))
        number = position - (int(self._text_ends[index - 1]) if index else 0)
        text = self._texts_of(self.scenes[index])[number].text
        return Item(id=f"{self._image_id(index)}#{number}", text=text)

    def pairs(self) -> Links:
        texts = np.arange(int(self._text_ends[-1]))
        images = np.searchsorted(self._text_ends, texts, side="right")
        labels: dict[str, Label] = {}
        if self._options.texts == _QUESTIONS:
            labels[ANSWERS] = self._answers
        if self._options.texts != _CAPTIONS or self._options.boxes:
            labels[REGIONS] = self._regions
        return Links(
            {side: Strings.of(self.ids(side)) for side in IMAGE_TEXT},
            {IMAGE_TEXT: compact(np.stack([images, texts], axis=1))},
            labels,
        )

    def fingerprint(self) -> str:
        options: dict[str, object] = {
            "count": self._count,
            "seed": self._options.seed,
            "size": self._options.size,
        }
        # what came later is hashed where it is asked for alone: earlier stores keep their keys
        if self._options.texts != _CAPTIONS:
            options["texts"] = self._options.texts
        elif self._options.boxes:
            options["boxes"] = True
        return fingerprint({"drawing": DRAWING_VERSION, "split": self._name, **options})

    @cached_property
    def _text_ends(self) -> Int64[np.ndarray, " images"]:
        """Return where the texts of each picture end; but of phrases, without drawing scenes."""
        if self._options.texts == _PHRASES:
            counts = np.array([len(scene.shapes) for scene in self.scenes], dtype=np.int64)
        else:
            num_texts = NUM_CAPTIONS if self._options.texts == _CAPTIONS else NUM_QUESTIONS
            counts = np.full(self._count, num_texts, dtype=np.int64)
        return np.cumsum(counts)

    @cached_property
    def _answers(self) -> Answers:
        asked: list[SceneQuestion] = [text for scene in self.scenes for text in questions(scene)]
        return Answers.of(
            [[question.answer] for question in asked],
            question_types=[question.question_type for question in asked],
            answer_types=[question.answer_type for question in asked],
            vocabulary=ANSWER_LIST,
        )

    @cached_property
    def _regions(self) -> Regions:
        """Return the boxes of all shapes, whose classes are their kinds."""
        size = self._options.size
        mentions: list[list[tuple[int, int, int]]] = []
        num_before = 0
        for scene in self.scenes:
            mentions += [
                [(num_before + shape, first, last) for shape, first, last in text.mentions]
                for text in self._texts_of(scene)
            ]
            num_before += len(scene.shapes)
        return Regions.of(
            [(size, size)] * self._count,
            [shape_boxes(scene, size) for scene in self.scenes],
            mentions,
            class_of=[
                [SHAPES.index(shape.kind) for shape in scene.shapes] for scene in self.scenes
            ],
            class_names=SHAPES,
        )

    def _image_id(self, index: int) -> str:
        return f"shapes-{self._name}-{index:06d}"


class ShapesSource(Source):
    """Draw two or three coloured shapes in a spatial relation, with true texts about each picture.

    Captions are complete: size, colour and kind of every shape, how they stand, and the background.
    Phrases name one shape each, and questions have one right answer each. Boxes are of the pixels
    that show a shape, whose kind is the class. No scene appears in two splits, whatever the seeds.
    A split's scenes depend on the seed and the split alone, and fewer of them are the first of
    more. Pictures are drawn when an item is asked for.

    Args:
        root: Ignored.
        options: See `ShapesOptions`.
    """

    title = "Drawn shapes in spatial relations, with captions, boxes or questions; needs no files"
    needs_files = False
    labels = (ANSWERS, REGIONS)
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
