"""Geometry of patches in an image: its resize and crop, and coordinates mapped through both.

Coordinates are (y, x) and continuous: the top left pixel covers 0 to 1 both ways, so that edges map
to edges, as resizing does. A box is two points. Sizes are (height, width) in pixels. NumPy only.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int32

# One line an image: `original` after EXIF rotation, `resized` as a whole, and the part of the
# resized image that the model reads, with a negative top or left where it is padded.
FIELDS = (
    "original_height",
    "original_width",
    "resized_height",
    "resized_width",
    "top",
    "left",
    "crop_height",
    "crop_width",
)

Size: TypeAlias = tuple[int, int]
Row: TypeAlias = Int32[np.ndarray, "1 8"]
Geometry: TypeAlias = Int32[np.ndarray, "*#lines 8"]
Points: TypeAlias = Float[np.ndarray, "*#lines 2"]
Resizing: TypeAlias = Callable[[Size], Size]
Cropping: TypeAlias = Callable[[int, int], int]


def to_input(geometry: Geometry, points: Points) -> Float[np.ndarray, "..."]:
    """Map points of the original image to pixels of the model's input.

    Geometry and points broadcast: n boxes are points [n, 2, 2] and take `geometry[:, None]`. Points
    that the crop leaves out are negative, or lie beyond its size.
    """
    return np.asarray(points * _scale(geometry) - geometry[..., 4:6])


def to_original(geometry: Geometry, points: Points) -> Float[np.ndarray, "..."]:
    """Map pixels of the model's input to points of the original image, the inverse of `to_input`.

    Points in the padding lie outside of the image.
    """
    return np.asarray((points + geometry[..., 4:6]) / _scale(geometry))


def to_grid(geometry: Geometry, grid: Size, points: Points) -> Float[np.ndarray, "..."]:
    """Map points of the original image to (row, column) of the grid; cell (0, 0) is 0 to 1.

    Args:
        geometry: Geometry of the images.
        grid: Rows and columns of the patches, which share the model's input evenly.
        points: Points of the original images.
    """
    return np.asarray(to_input(geometry, points) * np.array(grid) / geometry[..., 6:8])


def from_grid(geometry: Geometry, grid: Size, cells: Points) -> Float[np.ndarray, "..."]:
    """Map (row, column) of the grid to points of the original image, the inverse of `to_grid`."""
    return to_original(geometry, cells * geometry[..., 6:8] / np.array(grid))


def coverage(
    boxes: Float[np.ndarray, "boxes 4"], geometry: Geometry, grid: Size
) -> Float[np.ndarray, "boxes patches"]:
    """Return the share of each patch that each box covers, from 0 to 1.

    Of 4 x 4 pixels that are read as they are in a grid of 2 x 2, the box (1, 0, 4, 2) covers half
    of the first patch and all of the second: [0.5, 1, 0, 0]. A box that the crop leaves out, or
    that is empty, covers nothing; see `num_uncovered`.

    Args:
        boxes: x1, y1, x2, y2 in pixels of the original images, finite.
        geometry: Geometry of the image of all boxes, or a line for each.
        grid: Rows and columns of the patches, which share the model's input evenly.

    Returns:
        Shares by box and patch, row by row of the grid.
    """
    # (y, x) of the top left corner and of the bottom right one
    corners = boxes[:, [1, 0, 3, 2]].astype(np.float64).reshape(-1, 2, 2)
    cells = to_grid(geometry[..., None, :], grid, corners)
    rows, columns = (
        _covered(cells[:, 0, axis], cells[:, 1, axis], count) for axis, count in enumerate(grid)
    )
    return np.asarray(rows[:, :, None] * columns[:, None, :]).reshape(len(boxes), grid[0] * grid[1])


def _covered(
    starts: Float[np.ndarray, " boxes"], ends: Float[np.ndarray, " boxes"], count: int
) -> Float[np.ndarray, "boxes count"]:
    """Return how much of each interval 0 to 1, 1 to 2, ... lies from a start to an end."""
    first = np.arange(count)
    overlap = np.minimum(ends[:, None], first + 1) - np.maximum(starts[:, None], first)
    return np.asarray(np.clip(overlap, 0, 1))


def num_uncovered(shares: Float[np.ndarray, "boxes patches"]) -> int:
    """Return how many boxes cover nothing of any patch: the crop leaves them out."""
    return int((~shares.any(axis=1)).sum())


def patch_boxes(geometry: Row | Int32[np.ndarray, " 8"], grid: Size) -> Float[np.ndarray, "n 4"]:
    """Return x1, y1, x2, y2 of each patch in pixels of the original image, row by row.

    It is what `coverage` undoes, for drawing: a patch covers its own box alone, and wholly. A patch
    of padding has a box outside of the image, or one that reaches out of it.
    """
    rows, columns = np.indices(grid).reshape(2, -1)
    cells = np.stack([rows, columns], axis=1)[:, None] + np.array([[0, 0], [1, 1]])
    corners = from_grid(geometry.reshape(8), grid, cells.astype(np.float64))
    return np.asarray(corners[..., ::-1].reshape(-1, 4))


def _scale(geometry: Geometry) -> Float[np.ndarray, "..."]:
    return np.asarray(geometry[..., 2:4] / geometry[..., 0:2])


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """Resizing, cropping and padding that make an image of any size the model's input.

    Attributes:
        resize: Returns the size after resizing.
        crop: Size of the centre that is kept of it, or None to keep all.
        offset: Returns where the crop begins, given the length of an edge and of its crop.
        padded: Size to which the end of both edges is padded at last, or None for no padding.
    """

    resize: Resizing
    crop: Size | None
    offset: Cropping
    padded: Size | None = None

    def geometry(self, original: Size) -> Row:
        """Return the line of `FIELDS` of an image of this size."""
        resized = self.resize(original)
        crop = self.crop or resized
        top, left = (self.offset(*edges) for edges in zip(resized, crop, strict=True))
        crop = self.padded or crop
        return np.array([[*original, *resized, top, left, *crop]], dtype=np.int32)


def whole_image(size: Size) -> Resampling:
    """Return the resampling that resizes every image to `size`."""
    return Resampling(resize=_exactly(size), crop=None, offset=_floored_offset)


def timm_resampling(config: Mapping[str, Any]) -> Resampling:
    """Return what timm's evaluation transform does under a resolved data configuration.

    Source: timm 1.0, `transforms_imagenet_eval` and `ResizeKeepRatio`.
    """
    height, width = config["input_size"][-2:]
    scaled = (math.floor(height / config["crop_pct"]), math.floor(width / config["crop_pct"]))
    if config["crop_mode"] == "squash":
        resize = _exactly(scaled)
    elif config["crop_mode"] == "border":
        resize = _by_ratio(scaled, max)
    elif scaled[0] == scaled[1]:
        resize = _shortest(scaled[0])
    else:
        resize = _by_ratio(scaled, min)
    return Resampling(resize=resize, crop=(height, width), offset=_rounded_offset)


def processor_resamplings(settings: Mapping[str, Any]) -> list[Resampling]:
    """Return what a transformers image processor with these settings may do, likeliest first.

    The settings do not tell how a release and its backend round where a crop begins, nor whether a
    class does more than they say: hold the result against the processor.

    Source: transformers 5, `TorchvisionBackend` and `PilBackend`.

    Returns:
        No element where the settings are not understood.
    """
    resize: Resizing | None = _unchanged
    if settings.get("do_resize"):
        resize = _processor_resize(_edges(settings.get("size")))
    crop = _edges(settings.get("crop_size")) if settings.get("do_center_crop") else None
    # without a size, images are padded to the largest of their batch, which is always one image
    padded = (_edges(settings.get("pad_size")) or None) if settings.get("do_pad") else None
    sizes = [size for size in (crop, padded) if size is not None]
    if resize is None or any(set(size) != {"height", "width"} for size in sizes):
        return []
    return [
        Resampling(
            resize=resize,
            crop=None if crop is None else (crop["height"], crop["width"]),
            offset=offset,
            padded=None if padded is None else (padded["height"], padded["width"]),
        )
        for offset in (_truncated_offset, _rounded_offset, _floored_offset)
    ]


def proportional(settings: Mapping[str, Any]) -> Resizing:
    """Return the largest resizing to expect of an image processor that is not understood.

    That is keeping the proportions, with the largest edge of its settings as the shorter one.
    """
    edges = _edges(settings.get("size")) if settings.get("do_resize") else {}
    return _shortest(max(edges.values())) if edges else _unchanged


def _processor_resize(size: Mapping[str, int]) -> Resizing | None:
    builders: dict[frozenset[str], Callable[..., Resizing]] = {
        frozenset({"shortest_edge", "longest_edge"}): _between_edges,
        frozenset({"shortest_edge"}): _shortest,
        frozenset({"max_height", "max_width"}): _within,
        frozenset({"height", "width"}): lambda height, width: _exactly((height, width)),
    }
    build = builders.get(frozenset(size))
    return None if build is None else build(**size)


def _edges(size: Mapping[str, Any] | None) -> dict[str, int]:
    return {name: int(value) for name, value in dict(size or {}).items() if value}


def _unchanged(original: Size) -> Size:
    return original


def _exactly(size: Size) -> Resizing:
    """Resize to `size`, whatever the proportions were."""
    return lambda original: size


def _shortest(shortest_edge: int) -> Resizing:
    """Keep the proportions, and round the longer edge down.

    Source: torchvision 0.21, `_compute_resized_output_size`.
    """

    def resize(original: Size) -> Size:
        height, width = original
        if width <= height:
            return int(shortest_edge * height / width), shortest_edge
        return shortest_edge, int(shortest_edge * width / height)

    return resize


def _between_edges(*, shortest_edge: int, longest_edge: int) -> Resizing:
    """Keep the proportions; the shorter edge gives way where the longer one would be too long.

    Source: transformers 5, `get_size_with_aspect_ratio`.
    """

    def resize(original: Size) -> Size:
        height, width = original
        short, long = min(original), max(original)
        shorter: float = shortest_edge
        if long / short * shortest_edge > longest_edge:
            shorter = longest_edge * short / long
        edge = round(shorter)
        if edge == short:
            return original
        if width < height:
            return int(shorter * height / width), edge
        return edge, int(shorter * width / height)

    return resize


def _within(*, max_height: int, max_width: int) -> Resizing:
    """Keep the proportions, as large as fits.

    Source: transformers 5, `get_image_size_for_max_height_width`.
    """

    def resize(original: Size) -> Size:
        scale = min(max_height / original[0], max_width / original[1])
        return int(original[0] * scale), int(original[1] * scale)

    return resize


def _by_ratio(target: Size, choose: Callable[[float, float], float]) -> Resizing:
    """Keep the proportions and round both edges; `choose` says which of them meets the target.

    Source: timm 1.0, `ResizeKeepRatio`.
    """

    def resize(original: Size) -> Size:
        ratio = choose(original[0] / target[0], original[1] / target[1])
        return round(original[0] / ratio), round(original[1] / ratio)

    return resize


def _rounded_offset(edge: int, crop: int) -> int:
    """Round half to even, as torchvision does; padding is rounded down."""
    return round((edge - crop) / 2) if edge >= crop else -((crop - edge) // 2)


def _truncated_offset(edge: int, crop: int) -> int:
    """Round towards zero, as the torchvision backend of transformers does."""
    return int((edge - crop) / 2)


def _floored_offset(edge: int, crop: int) -> int:
    """Round down, as the PIL backend of transformers does."""
    return (edge - crop) // 2
