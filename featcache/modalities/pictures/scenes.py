"""Scenes of coloured shapes: what a scene is, how it is drawn from a seed, where shapes stand.

Everything follows from SHA-256 digests, one byte a decision, so that scenes are the same on every
machine and Python version, and no random number generator is involved.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

T = TypeVar("T")

# Each colour is told from the others and from each background at a glance.
COLOURS = {
    "red": (215, 25, 30),
    "orange": (255, 140, 0),
    "yellow": (250, 220, 20),
    "green": (20, 150, 60),
    "blue": (35, 75, 230),
    "purple": (135, 45, 175),
    "pink": (255, 130, 190),
    "brown": (130, 75, 30),
}
BACKGROUNDS = {"white": (255, 255, 255), "grey": (185, 185, 185), "black": (0, 0, 0)}
SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart")
RADIUS = {"small": 0.07, "large": 0.135}  # of the circle around a shape, in widths of the picture

PAIR_LAYOUTS = ("left", "above", "above-left", "above-right", "inside", "in-front")
TRIPLE_LAYOUTS = ("row", "column", "pyramid")

# Shapes that are filled around their centre, with the radius of the largest circle within them in
# units of their own radius; the diamond's half diagonals are 1 and 0.75, 0.6 = 0.75 / 1.25.
INNER_RADIUS = {"circle": 1.0, "square": math.sqrt(0.5), "diamond": 0.6}

# Kinds that first and second shape may have in the layouts where they touch.
_KINDS: dict[str, tuple[Sequence[str], ...]] = {
    "inside": (SHAPES, tuple(INNER_RADIUS)),
    "in-front": (tuple(INNER_RADIUS), tuple(INNER_RADIUS)),
}

# Centres of the shapes of each layout, in widths of the picture, before the jitter.
_CENTRES = {
    "left": ((0.28, 0.5), (0.72, 0.5)),
    "above": ((0.5, 0.28), (0.5, 0.72)),
    "above-left": ((0.28, 0.28), (0.72, 0.72)),
    "above-right": ((0.72, 0.28), (0.28, 0.72)),
    "row": ((0.18, 0.5), (0.5, 0.5), (0.82, 0.5)),
    "column": ((0.5, 0.18), (0.5, 0.5), (0.5, 0.82)),
    "pyramid": ((0.5, 0.28), (0.27, 0.72), (0.73, 0.72)),
}
# (of the whole picture along x, along y, of each shape), at most, in widths of the picture.
_JITTER = {
    "left": (0.08, 0.25, 0.03),
    "above": (0.25, 0.08, 0.03),
    "above-left": (0.06, 0.06, 0.06),
    "above-right": (0.06, 0.06, 0.06),
    "row": (0.0, 0.25, 0.015),  # three large shapes and the gaps between them just fit
    "column": (0.25, 0.0, 0.015),
    "pyramid": (0.06, 0.06, 0.04),
}


class Shape(NamedTuple):
    """Name one shape of a scene."""

    size: str
    colour: str
    kind: str


class Scene(NamedTuple):
    """Describe a picture up to small shifts; equal scenes have equal captions.

    Mirrored relations are one layout with the shapes swapped, so no picture has two descriptions.

    Attributes:
        background: A key of `BACKGROUNDS`.
        layout: One of `PAIR_LAYOUTS` or `TRIPLE_LAYOUTS`.
        shapes: Two or three shapes in the order of the layout: the left, upper, inner or front
            one first; a pyramid is top, bottom left, bottom right.
    """

    background: str
    layout: str
    shapes: tuple[Shape, ...]


class Mention(NamedTuple):
    """Words of a text that name one shape of its scene.

    Attributes:
        shape: Place of the shape in the scene.
        first: First character of the words, such as those of `a small red circle`.
        last: Last character of them + 1.
    """

    shape: int
    first: int
    last: int


@dataclass(frozen=True)
class SceneText:
    """Text about a scene.

    Attributes:
        text: The text.
        mentions: Words of it that name shapes, in their order.
    """

    text: str
    mentions: tuple[Mention, ...]


def name_scene(scene: Scene) -> str:
    """Return a text that is the same for equal scenes in every version of Python."""
    return json.dumps(scene)


class Decisions:
    """Make decisions from the digest of a text, one byte each; at most 32.

    Args:
        text: Equal texts give equal decisions.
    """

    def __init__(self, text: str) -> None:
        self._bytes = iter(hashlib.sha256(text.encode()).digest())

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of at most 256 choices."""
        return choices[next(self._bytes) % len(choices)]

    def shift(self, most: float) -> float:
        """Return a number from -most to most, both included."""
        return (next(self._bytes) / 255 * 2 - 1) * most


def split_of_scene(scene: Scene) -> str:
    """Return the one split that a scene may appear in: 10 % val, 20 % test, 70 % train.

    The split depends on the scene alone, so that no seed brings a test scene into training.
    """
    share = Decisions(f"split {name_scene(scene)}").pick(range(250))
    if share < 25:
        return "val"
    return "test" if share < 75 else "train"


def draw_scenes(split: str, count: int, *, seed: int) -> list[Scene]:
    """Return `count` different scenes of one split; fewer scenes are the first of more."""
    scenes: dict[Scene, None] = {}  # a set that keeps order
    attempt = 0
    while len(scenes) < count:
        scene = _propose(Decisions(f"scene {seed} {attempt}"))
        attempt += 1
        if _is_clear(scene) and split_of_scene(scene) == split:
            scenes[scene] = None
    return list(scenes)


def _propose(decide: Decisions) -> Scene:
    background = decide.pick(tuple(BACKGROUNDS))
    layouts = decide.pick((PAIR_LAYOUTS, TRIPLE_LAYOUTS))
    layout = decide.pick(layouts)
    pools = _KINDS.get(layout, (SHAPES, SHAPES) if layouts is PAIR_LAYOUTS else (SHAPES,) * 3)
    shapes = [
        Shape(decide.pick(tuple(RADIUS)), decide.pick(tuple(COLOURS)), decide.pick(kinds))
        for kinds in pools
    ]
    return Scene(background, layout, tuple(shapes))


def _is_clear(scene: Scene) -> bool:
    """Return whether captions can tell the shapes apart and the picture shows what they say."""
    first, second = scene.shapes[:2]
    if scene.layout == "inside":
        return (first.size, second.size) == ("small", "large") and first.colour != second.colour
    if scene.layout == "in-front":
        hides = (first.size, second.size) == ("large", "small")
        return not hides and first.colour != second.colour
    names = {(shape.colour, shape.kind) for shape in scene.shapes}
    return len(names) == len(scene.shapes)


def centres(scene: Scene) -> list[tuple[float, float]]:
    """Return the centre (x, y) of each shape in widths of the picture, y growing downwards.

    Only shapes of the layouts `inside` and `in-front` touch each other.
    """
    decide = Decisions(f"place {name_scene(scene)}")
    if scene.layout in _CENTRES:
        along_x, along_y, each = _JITTER[scene.layout]
        x, y = decide.shift(along_x), decide.shift(along_y)
        return [
            (left + x + decide.shift(each), top + y + decide.shift(each))
            for left, top in _CENTRES[scene.layout]
        ]
    x, y = 0.5 + decide.shift(0.2), 0.5 + decide.shift(0.2)
    if scene.layout == "inside":
        return [(x, y), (x, y)]
    # The circles within both shapes overlap by a quarter: the front one covers a part, never all.
    front, back = (RADIUS[shape.size] * INNER_RADIUS[shape.kind] for shape in scene.shapes)
    half, angle = 0.375 * (front + back), decide.shift(math.pi)
    away_x, away_y = half * math.cos(angle), half * math.sin(angle)
    return [(x - away_x, y - away_y), (x + away_x, y + away_y)]
