"""Encoders without weights, for tests and examples, and the shortest backend to copy."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from PIL import Image
from typing_extensions import override

from ...errors import SpecError
from ...modalities.image import check_resized
from ...modalities.pictures.patch_geometry import whole_image
from ...tokens import Tokens
from ...types import Modality
from ..base import LAST, Content, Encoder, without_pooled
from ..card import EncoderCard
from ..pooling import POOLED, LayerLayout
from ..weights import Weights
from ._checks import check_layout, hash_state

SEED = 0  # of the random projection; part of the identity
WORD_BUCKETS = 256  # few enough to stay tiny, enough to keep most words of a caption apart
_RAW_WIDTHS = {Modality.IMAGE: 3, Modality.TEXT: WORD_BUCKETS}

# Colours of the cells, or the rows of the table that the words name.
# `_`: the texts of a batch differ in their number of tokens
Raw = Float32[np.ndarray, "_ 3"] | Int64[np.ndarray, " _"]


class ToyEncoder(Encoder[Raw]):
    """Project simple statistics of an item to `width` features, always the same way.

    An image gives the mean colour of each cell of the card's grid, a text one token a word: the
    hash of the lower-cased word names one row of a table. So equal colours and equal words have
    equal features, and nothing else is known about either. The card's grid or `max_tokens` decide
    how many tokens there are.
    """

    modalities = tuple(_RAW_WIDTHS)

    def __init__(self, card: EncoderCard, weights: Weights, *, device: torch.device) -> None:
        assert weights.files is None, "find_weights refuses weights for cards without any"
        super().__init__(card, weights, device=device)
        self.companion_names = () if card.layout.grid is None else ("geometry",)
        self._layout = card.layout
        generator = torch.Generator().manual_seed(SEED)
        projection = torch.randn(_RAW_WIDTHS[card.modality], card.width, generator=generator)
        self._hash = hash_state({"projection": projection})
        self._projection = projection.to(device)
        if card.layout.grid is not None:
            rows, columns = card.layout.grid
            check_layout(card, tokens=rows * columns, width=projection.shape[1])

    @override
    def identity(self) -> dict[str, object]:
        return {
            "backend": "toy",
            "modality": self.modality.value,
            "weights": self._hash,
            "grid": None if self._layout.grid is None else list(self._layout.grid),
            "max_tokens": self._layout.max_tokens,
            "precision": self.precision,
        }

    @override
    def preprocess(self, content: Content, *, item_id: str) -> Raw:
        return (
            self._cell_colours(content, item_id)
            if isinstance(content, Image.Image)
            else self._word_rows(content)
        )

    @override
    def encode(self, batch: Sequence[Raw]) -> Tokens:
        longest = max((len(raw) for raw in batch), default=0)
        values = torch.zeros(len(batch), longest, self.width)
        mask = torch.zeros(len(batch), longest, dtype=torch.bool)
        for row, raw in enumerate(batch):
            values[row, : len(raw)] = self._projected(torch.from_numpy(raw)).cpu()
            mask[row, : len(raw)] = True
        return Tokens(values, mask)

    @override
    def layout(self, layer: int = LAST) -> LayerLayout:
        if layer == POOLED:
            raise without_pooled(self.name)
        if layer != LAST:
            raise SpecError(f"encoder {self.name!r} has one layer, -1; found {layer}")
        grid = self._layout.grid
        return LayerLayout(width=self.width, grid=None if grid is None else (grid[0], grid[1]))

    @override
    def companions(self, content: Content) -> Mapping[str, np.ndarray]:
        if not isinstance(content, Image.Image) or self._layout.grid is None:
            return {}
        rows, columns = self._layout.grid
        # all of the image is resized to one pixel a cell
        return {"geometry": whole_image((rows, columns)).geometry((content.height, content.width))}

    @override
    def size(self, prepared: Raw) -> int:
        return len(prepared)

    def _projected(self, raw: torch.Tensor) -> Float[torch.Tensor, "tokens width"]:
        raw = raw.to(self._device)
        if raw.is_floating_point():
            return raw @ self._projection
        return self._projection[raw.clamp(min=0)] * (raw >= 0)[:, None]

    def _cell_colours(self, image: Image.Image, item_id: str) -> Raw:
        """Return the mean red, green and blue of each cell, row by row, between 0 and 1."""
        assert self._layout.grid is not None, "an image card has a grid"
        rows, columns = self._layout.grid
        check_resized((image.height, image.width), (rows, columns), item_id=item_id)
        # A box filter down to one pixel a cell is the mean over the cell, whatever the size.
        cells = image.resize((columns, rows), Image.Resampling.BOX)
        return np.asarray(cells, dtype=np.float32).reshape(rows * columns, 3) / 255

    def _word_rows(self, text: str) -> Raw:
        """Return the row of the table that each word's hash names.

        A text without words is one token of zeros, called -1: every row has at least one.
        """
        words = text.lower().split()[: self._layout.max_tokens]
        # CRC-32, because Python's own hash differs from run to run
        hashes = [zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words]
        return np.array([number % WORD_BUCKETS for number in hashes] or [-1], dtype=np.int64)
