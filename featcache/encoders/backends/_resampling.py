"""Compare candidate resamplings with what a preprocessing does to a drawn picture."""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ...modalities.pictures.patch_geometry import Resampling, Size, to_input

# A landscape, a portrait and a square; more are chosen to tell the candidates apart.
_SIZES: tuple[Size, ...] = ((97, 150), (151, 96), (120, 120))
_SEARCHED: tuple[Size, ...] = tuple((64, width) for width in range(64, 129))
_MARK = 6  # half of the edge of the square that is drawn, in pixels of the picture
_MARK_AT = (0.4, 0.55)  # its centre; off the centre to see the scale, near enough for any crop
_TOLERANCE = 0.5  # pixels of the model's input; where a crop begins is off by one or not at all


def agreeing(
    candidates: Sequence[Resampling], preprocess: Callable[[Image.Image], Tensor]
) -> Resampling | None:
    """Return the first candidate that finds a drawn square where `preprocess` puts it, or None."""
    left = list(candidates)
    for size in dict.fromkeys([*_SIZES, *_telling_sizes(candidates)]):
        if not left:
            return None
        centre = np.floor(np.array(size) * _MARK_AT)
        shape, mark = _find_mark(size, centre, preprocess)
        left = [candidate for candidate in left if _agrees(candidate, size, centre, shape, mark)]
    return left[0] if left else None


def _telling_sizes(candidates: Sequence[Resampling]) -> list[Size]:
    """Return the first size at which each two candidates differ, where there is one."""
    lines = [
        np.concatenate([candidate.geometry(size) for size in _SEARCHED]) for candidate in candidates
    ]
    differing = [(first != second).any(axis=1) for first, second in combinations(lines, 2)]
    return [_SEARCHED[int(np.argmax(differs))] for differs in differing if differs.any()]


def _find_mark(
    size: Size, centre: np.ndarray, preprocess: Callable[[Image.Image], Tensor]
) -> tuple[Size, np.ndarray]:
    """Return the size of the model's input and the centre of the mark in it, NaN if cut off."""
    picture = Image.new("RGB", (size[1], size[0]))
    empty = preprocess(picture)
    (top, left), (bottom, right) = centre - _MARK, centre + _MARK - 1  # the last pixel is drawn too
    ImageDraw.Draw(picture).rectangle((left, top, right, bottom), fill="white")
    change = (preprocess(picture) - empty).abs().sum(dim=0, dtype=torch.float64)
    rows, columns = (torch.arange(edge, dtype=torch.float64) + 0.5 for edge in change.shape)
    middle = torch.stack([change.sum(dim=1) @ rows, change.sum(dim=0) @ columns]) / change.sum()
    return (change.shape[0], change.shape[1]), middle.numpy()


def _agrees(
    candidate: Resampling, size: Size, centre: np.ndarray, shape: Size, mark: np.ndarray
) -> bool:
    geometry = candidate.geometry(size)[0]
    if tuple(geometry[6:8].tolist()) != shape:
        return False
    # a comparison with NaN is false: a mark that was cut off agrees with nothing
    return bool((np.abs(to_input(geometry, centre) - mark) < _TOLERANCE).all())
