"""Draw a scene of coloured shapes with Pillow, without smoothing, so that colours are exact."""

import io
import math
from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

from PIL import Image, ImageDraw

from .scenes import BACKGROUNDS, COLOURS, RADIUS, Scene, centres

Point: TypeAlias = tuple[float, float]
Ink: TypeAlias = int | tuple[int, int, int]  # of a picture in grey, or in colour


def draw_png(scene: Scene, size: int) -> bytes:
    """Return a PNG of `scene`, `size` pixels wide and high; later shapes lie under earlier ones."""
    picture = Image.new("RGB", (size, size), BACKGROUNDS[scene.background])
    _draw_shapes(picture, scene, [COLOURS[shape.colour] for shape in scene.shapes])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)  # flat colours are small at any level
    return buffer.getvalue()


def shape_boxes(scene: Scene, size: int) -> list[tuple[int, int, int, int]]:
    """Return x1, y1, x2, y2 of the pixels of `draw_png` that show each shape.

    A shape that another one partly covers has the box of what is seen of it.
    """
    picture = Image.new("L", (size, size), 0)
    numbers = range(1, len(scene.shapes) + 1)
    _draw_shapes(picture, scene, numbers)
    boxes = [picture.point([grey == number for grey in range(256)]).getbbox() for number in numbers]
    seen = [box for box in boxes if box is not None]
    assert len(seen) == len(boxes), "no shape covers another wholly"
    return seen


def _draw_shapes(picture: Image.Image, scene: Scene, inks: Sequence[Ink]) -> None:
    pen, size = ImageDraw.Draw(picture), picture.width
    drawn = zip(scene.shapes, centres(scene), inks, strict=True)
    for shape, (x, y), ink in reversed(list(drawn)):
        # Half a pixel less: Pillow paints the pixels on the outline too.
        radius = RADIUS[shape.size] * size - 0.5
        _draw_shape(pen, shape.kind, (x * size, y * size), radius, ink)


def _draw_shape(
    pen: ImageDraw.ImageDraw, kind: str, centre: Point, radius: float, ink: Ink
) -> None:
    x, y = centre
    box = (x - radius, y - radius, x + radius, y + radius)
    if kind == "circle":
        pen.ellipse(box, fill=ink)
    elif kind == "ring":
        pen.ellipse(box, outline=ink, width=max(1, round(0.35 * radius)))
    else:
        outline = [(x + radius * right, y + radius * down) for right, down in _outline(kind)]
        pen.polygon(outline, fill=ink)


@cache
def _outline(kind: str) -> tuple[Point, ...]:
    """Return the corners of a shape within the circle of radius 1, y growing downwards."""
    if kind == "star":
        return tuple(_on_circle(36.0 * i, 0.42 if i % 2 else 1.0) for i in range(10))
    if kind == "heart":
        return tuple(_on_heart(5.0 * i) for i in range(72))
    if kind == "cross":
        arm, end = 0.3, math.sqrt(1 - 0.3**2)
        corner = [(arm, -end), (arm, -arm), (end, -arm)]  # a quarter, clockwise from the top
        turned = [corner]
        for _ in range(3):
            turned.append([(-y, x) for x, y in turned[-1]])
        return tuple(point for quarter in turned for point in quarter)
    corners = {
        "triangle": [_on_circle(120.0 * i, 1.0) for i in range(3)],
        "square": [_on_circle(45.0 + 90.0 * i, 1.0) for i in range(4)],
        "diamond": [(0.0, -1.0), (0.75, 0.0), (0.0, 1.0), (-0.75, 0.0)],
    }
    return tuple(corners[kind])


def _on_circle(degrees: float, radius: float) -> Point:
    turn = math.radians(degrees)  # clockwise from the top
    return radius * math.sin(turn), -radius * math.cos(turn)


def _on_heart(degrees: float) -> Point:
    turn = math.radians(degrees)
    x = 16 * math.sin(turn) ** 3
    up = 13 * math.cos(turn) - 5 * math.cos(2 * turn) - 2 * math.cos(3 * turn) - math.cos(4 * turn)
    return x / 17.4, (-2.5 - up) / 17.4  # 17.4 is the largest distance from the middle, (0, -2.5)
