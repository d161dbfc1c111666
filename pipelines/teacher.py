"""What the frozen encoders say of items: the averaged tokens of their cached features."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from ..adapters.gradcache import Load
from ..adapters.masking import without_padding
from ..adapters.objective import Teacher
from ..featcache.reading.reader import FeatureReader
from ..featcache.tokens import Tokens
from .inputs.pairs import JoinedStores

_ROWS = 1024  # that are averaged at a time


def teacher_of(images: Sequence[Load], texts: Sequence[Load]) -> Teacher:
    """Return the averaged tokens of all that is loaded, in order; chunks one after the other."""
    image, text = (torch.cat([unit_means(load()) for load in side]) for side in (images, texts))
    return Teacher(image, text)


def teacher_of_rows(
    stores: JoinedStores, images: Int64[np.ndarray, " n"], texts: Int64[np.ndarray, " m"]
) -> Teacher:
    """Return the averaged tokens of these rows, on the CPU."""
    found = teacher_of(_loads(stores.first, images), _loads(stores.second, texts))
    return found.to(torch.device("cpu"))


def unit_means(tokens: Tokens) -> Float[Tensor, "rows width"]:
    """Return the mean of the real tokens of each row, of length 1, in float32."""
    sums = without_padding(tokens).float().sum(dim=1)
    return functional.normalize(sums / tokens.mask.sum(dim=1, keepdim=True), dim=1)


def _loads(reader: FeatureReader, rows: Int64[np.ndarray, " n"]) -> list[Load]:
    starts = range(0, len(rows), _ROWS)
    return [partial(reader.padded, rows[start : start + _ROWS]) for start in starts]
