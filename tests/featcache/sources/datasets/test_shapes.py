"""Drawn scenes: what the captions say is measured in the pixels, never taken from the scene."""

import io
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.modalities.image import decode_image
from lightalign.featcache.sources.datasets.shapes import ShapesOptions, ShapesSource
from lightalign.featcache.sources.opening import open_source
from lightalign.featcache.types import Modality

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
LARGE = ("large", "big", "huge")
SMALL = ("small", "little", "tiny")
PHRASE = re.compile(rf"\b[Aa] ({'|'.join(LARGE + SMALL)}) ({'|'.join(COLOURS)}) ([a-z]+)")

# Area of each kind within a circle of radius 1, from its geometry.
AREAS = {
    "circle": math.pi,
    "square": 2.0,  # diagonal 2
    "triangle": 0.75 * math.sqrt(3),  # side sqrt(3)
    "diamond": 1.5,  # diagonals 2 and 1.5
    "star": 10 * 0.5 * 0.42 * math.sin(math.pi / 5),  # ten triangles with sides 1 and 0.42
    "cross": 2 * 0.6 * 2 * math.sqrt(0.91) - 0.36,  # two bars, their common square once
    "ring": math.pi * (1 - 0.65**2),
    "heart": 180 * math.pi / 17.4**2,  # the curve encloses 180 pi, drawn at 1 / 17.4
}

# What a sentence claims once its shapes are X, Y, Z by order of mention: along an axis (x to the
# right, y down), who comes first; `in` who is within whom; `on` who covers whom.
CLAIMS = {
    r"X is to the left of Y on": ["x XY"],
    r", X is to the right of Y\.": ["x YX"],
    r"X with Y to its right;": ["x XY"],
    r"(X and, to its left, Y|X, with Y to its left)\.": ["x YX"],
    r"X is above Y on a": ["y XY"],
    r", X is below Y\.": ["y YX"],
    r"X with Y below it;": ["y XY"],
    r"(X and, above it, Y|X, with Y above it)\.": ["y YX"],
    r"X is above and to the left of Y on": ["x XY", "y XY"],
    r", X is below and to the right of Y\.": ["x YX", "y YX"],
    r"X with Y below it to the right;": ["x XY", "y XY"],
    r"(X and, above it to the left, Y|X, with Y above it to the left)\.": ["x YX", "y YX"],
    r"X is above and to the right of Y on": ["x YX", "y XY"],
    r", X is below and to the left of Y\.": ["x XY", "y YX"],
    r"X with Y below it to the left;": ["x YX", "y XY"],
    r"(X and, above it to the right, Y|X, with Y above it to the right)\.": ["x XY", "y YX"],
    r"X is inside Y on": ["in XY"],
    r", X is around Y\.": ["in YX"],
    r"X with Y around it;": ["in XY"],
    r"(X and, inside it, Y|X, with Y inside it)\.": ["in YX"],
    r"X is in front of and partly covering Y on": ["on XY"],
    r", X is behind and partly covered by Y\.": ["on YX"],
    r"X with Y partly hidden behind it;": ["on XY"],
    r"(X and, partly covering it, Y|X, with Y partly covering it)\.": ["on YX"],
    r"From left to right: X, Y and Z on": ["x XYZ"],
    r"from right to left, X, Y and Z\.": ["x ZYX"],
    r"X is between Y on its left and Z on its right;": ["x YXZ"],
    r"side by side on .*, X leftmost, Y in the middle, Z rightmost\.": ["x XYZ"],
    r"X is to the right of Y, which is to the right of Z\.": ["x ZYX"],
    r"From top to bottom: X, Y and Z on": ["y XYZ"],
    r"from bottom to top, X, Y and Z\.": ["y ZYX"],
    r"X is between Y above it and Z below it;": ["y YXZ"],
    r"stacked on .*, X topmost, Y in the middle, Z lowest\.": ["y XYZ"],
    r"X is below Y, which is below Z\.": ["y ZYX"],
    r"X is above Y on the left and Z on the right, on": ["y XY", "y XZ", "x YZ"],
    r"X is to the left of Y, and both are below Z\.": ["x XY", "y ZX", "y ZY"],
    r"X is to the right of Y, with Z above the two;": ["x YX", "y ZX", "y ZY"],
    r"X at the top, Y bottom left and Z bottom right\.": ["y XY", "y XZ", "x YZ"],
    r"with X and Y side by side, in this order, under Z\.": ["x XY", "y ZX", "y ZY"],
}


def source(**options):
    return ShapesSource(Path("unused"), ShapesOptions(**options))


def texts_by_picture(shapes, split):
    texts = [item.text for item in shapes.items(split, Modality.TEXT)]
    return [texts[start : start + 5] for start in range(0, len(texts), 5)]


def pixels_of(item):
    return np.asarray(decode_image(item.data, item_id=item.id)).astype(int)


def seen(item):
    """Return (left, top, right, bottom, area) in pixels of each colour of a picture, by RGB."""
    pixels = pixels_of(item)
    codes = pixels @ (65536, 256, 1)
    found = {}
    for code in np.unique(codes).tolist():
        rows, columns = np.nonzero(codes == code)
        box = (columns.min(), rows.min(), columns.max(), rows.max(), len(rows))
        found[code >> 16, code >> 8 & 255, code & 255] = box
    return found


def normalise(caption):
    """Return the caption with its shapes as X, Y, Z, and their (size, colour, kind)."""
    shapes = PHRASE.findall(caption)
    letters = iter("XYZ")
    return PHRASE.sub(lambda _: next(letters), caption), shapes


def holds(claim, boxes):
    kind, order = claim.split()
    first, *others = ({"X": 0, "Y": 1, "Z": 2}[letter] for letter in order)
    if kind in "xy":
        axis = "xy".index(kind)
        ranks = [first, *others]
        return all(boxes[a][axis + 2] < boxes[b][axis] for a, b in itertools.pairwise(ranks))
    (left, top, right, bottom, _), (left_2, top_2, right_2, bottom_2, _) = (
        boxes[first],
        boxes[others[0]],
    )
    if kind == "in":
        return left_2 < left and top_2 < top and right < right_2 and bottom < bottom_2
    return (
        left <= right_2 + 1 and left_2 <= right + 1 and top <= bottom_2 + 1 and top_2 <= bottom + 1
    )


def full_area(shape, size):
    """Return the area of an uncovered shape in pixels, and how far the drawn one may be off.

    Pillow paints the pixels on the outline too, and rounds circles to whole pixels: up to about one
    pixel more along a perimeter of some 6 radii.
    """
    radius = (0.135 if shape[0] in LARGE else 0.07) * size - 0.5
    return AREAS[shape[2]] * radius**2, 6 * radius


def has_distinct_colours(captions):
    colours = [colour for _, colour, _ in PHRASE.findall(captions[0])]
    return len(set(colours)) == len(colours)


@pytest.fixture(scope="module")
def pictures():
    """Return (what is seen, five captions) of pictures in which no colour comes twice."""
    shapes = source(train=200, size=224)
    items = shapes.items("train", Modality.IMAGE)
    texts = texts_by_picture(shapes, "train")
    chosen = [index for index, captions in enumerate(texts) if has_distinct_colours(captions)]
    assert len(chosen) > 100
    return [(seen(items[index]), texts[index]) for index in chosen]


def test_every_caption_places_the_shapes_as_the_picture_shows_them(pictures):
    used = set()
    for found, captions in pictures:
        for caption in captions:
            sentence, shapes = normalise(caption)
            boxes = [found[COLOURS[colour]] for _, colour, _ in shapes]
            matching = [pattern for pattern in CLAIMS if re.search(pattern, sentence)]
            assert len(matching) == 1, sentence
            assert all(holds(claim, boxes) for claim in CLAIMS[matching[0]]), caption
            used.update(matching)
    assert used == set(CLAIMS)  # no kind of sentence went unmeasured


def test_every_caption_names_exactly_the_colours_of_the_picture(pictures):
    for found, captions in pictures:
        for caption in captions:
            named = {COLOURS[colour] for _, colour, _ in PHRASE.findall(caption)}
            (background,) = set(re.findall("white|grey|black", caption))
            assert named | {BACKGROUNDS[background]} == set(found)


def test_every_caption_names_sizes_that_the_areas_show(pictures):
    """Nothing is hidden but in front of something, where the shape behind keeps half its area."""
    for found, captions in pictures:
        hides = "cover" in captions[0] or "inside" in captions[0]
        for shape in itertools.chain.from_iterable(map(PHRASE.findall, captions)):
            area = found[COLOURS[shape[1]]][4]
            expected, tolerance = full_area(shape, 224)
            assert area < expected + tolerance, captions
            assert area > (0.5 * expected if hides else expected - tolerance), captions


def test_the_front_and_inner_shapes_are_whole_and_the_others_are_not(pictures):
    for found, captions in pictures:
        if "cover" not in captions[0] and "inside" not in captions[0]:
            continue
        front, back = PHRASE.findall(captions[0])
        expected, tolerance = full_area(front, 224)
        assert abs(found[COLOURS[front[1]]][4] - expected) < tolerance
        assert found[COLOURS[back[1]]][4] < 0.98 * full_area(back, 224)[0]


def test_each_kind_is_drawn_with_the_area_of_its_geometry():
    shapes = source(train=60, size=1024)
    texts = texts_by_picture(shapes, "train")
    items = shapes.items("train", Modality.IMAGE)
    kinds = set()
    for index, captions in enumerate(texts):
        apart = "cover" not in captions[0] and "inside" not in captions[0]
        if len(kinds) == len(AREAS) or not apart or not has_distinct_colours(captions):
            continue
        found = seen(items[index])
        for shape in PHRASE.findall(captions[0]):
            expected, tolerance = full_area(shape, 1024)
            assert abs(found[COLOURS[shape[1]]][4] - expected) < tolerance
            kinds.add(shape[2])
    assert kinds == set(AREAS)


def test_shapes_stay_in_the_picture_at_every_size():
    for size in (32, 33, 224):
        shapes = source(train=80, size=size)
        for item in shapes.items("train", Modality.IMAGE):
            pixels = pixels_of(item)
            assert pixels.shape == (size, size, 3)
            edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
            assert (edge == pixels[0, 0]).all()


def test_five_captions_differ_and_no_other_picture_shares_one():
    shapes = source(train=900, val=100, test=200)
    texts = [item.text for name in shapes.splits() for item in shapes.items(name, Modality.TEXT)]
    assert len(texts) == len(set(texts)) == 5 * 1200


def test_no_scene_is_in_two_splits_whatever_the_seeds():
    scenes = {
        (name, seed): set(source(train=600, val=100, test=200, seed=seed).scenes(name))
        for name in ("train", "val", "test")
        for seed in (0, 1)
    }
    for (one, _), (other, _) in itertools.combinations(scenes, 2):
        if one != other:
            assert not scenes[one, 0] & scenes[other, 1]
            assert not scenes[one, 0] & scenes[other, 0]
    assert scenes["train", 0] != scenes["train", 1]


def test_more_training_pictures_change_nothing_but_the_end():
    few, many = source(train=20, val=5, test=5), source(train=50, val=5, test=5)
    assert few.scenes("train") == many.scenes("train")[:20]
    for name in ("val", "test"):
        assert few.scenes(name) == many.scenes(name)
        assert few.fingerprint(name) == many.fingerprint(name)
    assert few.fingerprint("train") != many.fingerprint("train")


def test_the_smallest_part_of_scene_space_gives_a_thousand_scenes():
    assert len(set(source(val=1000).scenes("val"))) == 1000


def test_pictures_are_the_same_each_time_they_are_drawn():
    one, two = (source(train=8).items("train", Modality.IMAGE) for _ in range(2))
    assert [item.data for item in one] == [item.data for item in two]


def test_scenes_and_words_of_this_drawing_version_are_pinned():
    first, last = texts_by_picture(source(val=30), "val")[::29]
    assert first[0] == (
        "From left to right: a huge yellow square, a huge green star and a huge "
        "blue circle on a grey background."
    )
    assert last[4] == (
        "Two shapes on a grey background: a little orange triangle, with a huge "
        "yellow diamond above it to the left."
    )


def test_pictures_behave_like_a_list():
    items = source(train=12).items("train", Modality.IMAGE)
    assert len(items) == 12
    assert items[-1] == items[11]
    assert [item.id for item in items[2:4]] == ["shapes-train-000002", "shapes-train-000003"]
    with pytest.raises(IndexError):
        items[12]


def test_pictures_are_png_of_the_asked_size():
    item = source(val=1, size=48).items("val", Modality.IMAGE)[0]
    picture = Image.open(io.BytesIO(item.data))
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (48, 48))


@pytest.mark.parametrize(
    ("option", "value"),
    [("train", 0), ("val", -1), ("test", 50_001), ("size", 31), ("size", 1025), ("seed", -1)],
)
def test_options_out_of_range_are_refused_with_the_range(option, value):
    with pytest.raises(SpecError, match=rf"{option} must be an integer from .* found {value}"):
        source(**{option: value})


@pytest.mark.parametrize("value", ["many", 2.0, True])
def test_options_of_another_type_are_refused(value):
    with pytest.raises(SpecError, match=r"shapes.*train must be a whole number, found"):
        open_source("shapes", home=Path("unused"), options={"train": value})


@pytest.mark.parametrize(("option", "value"), [("seed", 1), ("size", 64), ("test", 501)])
def test_the_fingerprint_changes_with_what_decides_the_split(option, value):
    assert source(**{option: value}).fingerprint("test") != source().fingerprint("test")


def test_an_unknown_split_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"no split named 'dev'.*known: \['test'"):
        source().fingerprint("dev")
