"""Boxes of things in the images of a split, and which words of the texts name them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Int64, Integer

from .string_array import Strings

Pixels: TypeAlias = float | int
Box: TypeAlias = tuple[Pixels, Pixels, Pixels, Pixels]
Mention: TypeAlias = tuple[int, int, int]  # number of the box, first character, last + 1

NOWHERE = -1  # class of a box without one; both ends of words that are not known


@dataclass(frozen=True, eq=False)
class Regions:
    """Boxes of the images of a split, and the words of its texts that name them, in item order.

    Of one photo of 100 x 80 pixels, with a dog in it and a tree, and the text "a dog", `boxes` is
    [[10, 20, 50, 70], [60, 0, 99, 80]], `ends` is [2], `class_of` may be [0, 1] for the names `dog`
    and `tree`, `mentions` is [[0, 0, 5]] and `mention_ends` is [1].

    Attributes:
        sizes: Width and height of each picture in pixels, after its EXIF rotation.
        ends: Where the boxes of each image end in `boxes`.
        boxes: x1, y1, x2, y2 of each box in pixels of the original picture; the top left pixel is
            0 to 1 both ways, so that a box of one pixel has the width 1.
        class_of: Class of each box, an index into `class_names`, or -1.
        class_names: Name of each class, as the dataset writes it.
        mention_ends: Where the mentions of each text end in `mentions`.
        mentions: A box by its number in `boxes`, and the first character and the last + 1 of the
            words that name it, or -1 and -1 where the words are not known.
    """

    sizes: Int64[np.ndarray, "pictures 2"]
    ends: Int64[np.ndarray, " images"]
    boxes: Float32[np.ndarray, "total 4"]
    class_of: Int64[np.ndarray, " classes"]
    class_names: Strings
    mention_ends: Int64[np.ndarray, " texts"]
    mentions: Int64[np.ndarray, "mentions 3"]

    def __post_init__(self) -> None:
        """Check that everything is of the same images, boxes and texts.

        Raises:
            ValueError: A box is not finite or has no area, a picture has no size, or something is
                of a box, a class or characters that are not there.
        """
        if len(self.sizes) != len(self.ends):
            raise ValueError(f"there are {len(self.sizes):,} sizes of {len(self.ends):,} images")
        if (self.sizes < 1).any():
            raise ValueError("a picture has no size")
        _check_ends(self.ends, len(self.boxes), "boxes")
        _check_ends(self.mention_ends, len(self.mentions), "mentions")
        if not np.isfinite(self.boxes).all():
            raise ValueError("a box is not finite")
        if (self.boxes[:, 2:] <= self.boxes[:, :2]).any():
            raise ValueError("a box has no area: x2 > x1 and y2 > y1 is expected")
        if len(self.class_of) != len(self.boxes):
            raise ValueError(
                f"there are {len(self.class_of):,} classes of {len(self.boxes):,} boxes"
            )
        _check_within(self.class_of, NOWHERE, len(self.class_names), "a box is of a class")
        _check_within(self.mentions[:, 0], 0, len(self.boxes), "a mention is of a box")
        first, last = self.mentions[:, 1], self.mentions[:, 2]
        is_known = (first >= 0) & (last > first)
        if not (is_known | ((first == NOWHERE) & (last == NOWHERE))).all():
            raise ValueError("the words that name a box end before they begin")

    @classmethod
    def of(
        cls,
        sizes: Sequence[tuple[int, int]],
        boxes: Sequence[Sequence[Box]],
        mentions: Sequence[Sequence[Mention]] = (),
        *,
        class_of: Sequence[Sequence[int]] | None = None,
        class_names: Sequence[str] = (),
    ) -> "Regions":
        """Make regions of lists.

        Args:
            sizes: Width and height of each picture.
            boxes: Boxes of each image.
            mentions: Mentions of each text; a box counts among those of all images.
            class_of: Class of each box of each image; none has one without.
            class_names: Name of each class.

        Raises:
            ValueError: They contradict one another; see `Regions`.
        """
        flat = [box for of_image in boxes for box in of_image]
        classes = [NOWHERE] * len(flat) if class_of is None else [n for of in class_of for n in of]
        named = [mention for of_text in mentions for mention in of_text]
        return cls(
            sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
            ends=np.cumsum([len(of_image) for of_image in boxes], dtype=np.int64),
            boxes=np.array(flat, dtype=np.float32).reshape(-1, 4),
            class_of=np.array(classes, dtype=np.int64),
            class_names=Strings.of(class_names),
            mention_ends=np.cumsum([len(of_text) for of_text in mentions], dtype=np.int64),
            mentions=np.array(named, dtype=np.int64).reshape(-1, 3),
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Regions):
            return NotImplemented
        return self.class_names == other.class_names and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ARRAYS
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def image_of_box(self) -> Int64[np.ndarray, " total"]:
        """Return the place of the image of each box."""
        return np.searchsorted(self.ends, np.arange(len(self.boxes)), side="right")

    @property
    def text_of_mention(self) -> Int64[np.ndarray, " mentions"]:
        """Return the place of the text of each mention."""
        return np.searchsorted(self.mention_ends, np.arange(len(self.mentions)), side="right")

    def of_image(self, place: int) -> slice:
        """Return which of the boxes are of the image at a place."""
        return slice(int(self.ends[place - 1]) if place else 0, int(self.ends[place]))

    def of_text(self, place: int) -> Int64[np.ndarray, "mentions 3"]:
        """Return the mentions of the text at a place."""
        start = int(self.mention_ends[place - 1]) if place else 0
        return self.mentions[start : int(self.mention_ends[place])]

    def check_items(
        self, num_images: int, num_texts: int, pairs: Integer[np.ndarray, "pairs 2"]
    ) -> None:
        """Pass if these are the regions of some images and texts.

        Args:
            num_images: Images of the split.
            num_texts: Texts of the split.
            pairs: Places of an image and a text that belong together.

        Raises:
            ValueError: There are more or fewer, or a text names a box of an image that it does not
                belong to.
        """
        for noun, count, there in (
            ("images", len(self.ends), num_images),
            ("texts", len(self.mention_ends), num_texts),
        ):
            if count != there:
                raise ValueError(f"there are {count:,} {noun} with regions, not {there:,}")
        # a pair of places as one number: NumPy compares rows far slower
        images = self.image_of_box[self.mentions[:, 0]]
        mentioned = images * num_texts + self.text_of_mention
        linked = pairs[:, 0].astype(np.int64) * num_texts + pairs[:, 1]
        if not np.isin(mentioned, linked).all():
            raise ValueError("a text names a box of an image that it does not belong to")


ARRAYS = ("sizes", "ends", "boxes", "class_of", "mention_ends", "mentions")


def _check_ends(ends: Int64[np.ndarray, " n"], count: int, noun: str) -> None:
    is_ascending = (np.diff(ends, prepend=0) >= 0).all()
    if not is_ascending or (int(ends[-1]) if len(ends) else 0) != count:
        raise ValueError(f"the {noun} and their ends contradict one another")


def _check_within(numbers: Int64[np.ndarray, " n"], least: int, count: int, noun: str) -> None:
    if numbers.size and not (int(numbers.min()) >= least and int(numbers.max()) < count):
        raise ValueError(f"{noun} that is not one of {count:,}")
