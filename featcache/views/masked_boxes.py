"""Images with one of their boxes blacked out each, for guessing what is in it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int64
from PIL import Image, ImageDraw
from typing_extensions import override

from ..encoders.base import Content
from ..errors import UnreadableItemError
from ..regions import Regions
from ..sources.base import Source
from ..types import Modality
from .base import Companions, View, ViewItem


@dataclass(frozen=True, kw_only=True)
class MaskedBoxesOptions:
    """Options of `MaskedBoxes`; it has none."""


class MaskedBoxes(View):
    """One row for each box of an image: the picture with that box black.

    It is blacked out before any resize or crop, so that no encoder sees a pixel of it: every pixel
    that the box touches, with the edges of the box. Beside each row `box` has the number of the box
    among those of its split.
    """

    modality = Modality.IMAGE
    flag = "--mask-boxes"
    row_companions: ClassVar[tuple[str, ...]] = ("box",)
    Options = MaskedBoxesOptions

    def __init__(self, options: MaskedBoxesOptions) -> None:
        super().__init__(options)
        self._regions: Regions | None = None

    @override
    def count_rows(self, source: Source, split: str) -> Int64[np.ndarray, " items"]:
        regions = regions_of(source, split)
        if regions is None:
            return np.zeros(len(source.items(split, self.modality)), dtype=np.int64)
        self._regions = regions
        return np.diff(regions.ends, prepend=0)

    @override
    def change(self, content: Content, item: ViewItem) -> Content:
        assert self._regions is not None, "an image without boxes has no row"
        size = tuple(self._regions.sizes[item.place].tolist())
        # of another copy of the picture the box would be elsewhere
        if content.size != size:
            raise UnreadableItemError(
                f"{item.id}: the picture is {content.width} x {content.height} pixels, its boxes "
                f"are of one of {size[0]} x {size[1]}"
            )
        return black_out(content, self._regions.boxes[self._box(item)])

    @override
    def row_arrays(self, item: ViewItem) -> Companions:
        box = np.array([self._box(item)], dtype=np.int64)
        return {**super().row_arrays(item), "box": box}

    def _box(self, item: ViewItem) -> int:
        assert self._regions is not None, "an image without boxes has no row"
        first: int = self._regions.of_image(item.place).start
        return first + item.variant


def regions_of(source: Source, split: str) -> Regions | None:
    """Return the boxes of all images of a split, or None of one without."""
    return source.pairs(split).regions


def black_out(image: Image.Image, box: Float[np.ndarray, " 4"]) -> Image.Image:
    """Return a copy of an image in which every pixel that a box touches is black.

    The box is x1, y1, x2, y2 in pixels of the image, of which the first reaches from 0 to 1: one of
    0.5, 0, 2, 1 touches the first two pixels of the first line. What is outside is left out.
    """
    left, top = np.maximum(np.floor(box[:2]), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(box[2:]), image.size).astype(int).tolist()
    changed = image.copy()
    if left < right and top < bottom:
        black = 0 if len(image.getbands()) == 1 else (0,) * len(image.getbands())
        # the corners of a rectangle belong to it
        ImageDraw.Draw(changed).rectangle((left, top, right - 1, bottom - 1), fill=black)
    return changed
