"""Coordinates of photos find the place in the model's input where the library puts them."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightalign.featcache.encoders.backends._image_preprocessing import (
    ProcessorPreprocessing,
    TimmPreprocessing,
)
from lightalign.featcache.encoders.loading import build_encoder, open_encoder
from lightalign.featcache.modalities import read_item
from lightalign.featcache.modalities.pictures.patch_geometry import (
    FIELDS,
    coverage,
    from_grid,
    num_uncovered,
    patch_boxes,
    to_grid,
    to_input,
    to_original,
)
from lightalign.featcache.types import PER_ROW, Item, Modality

from ...conftest import PROCESSOR

# landscape, portrait, square, odd edges, one edge of the model's input, panoramas
SIZES = [(90, 140), (150, 80), (120, 120), (97, 131), (64, 99), (60, 300), (255, 61)]
ENCODERS = [
    "timm vit",
    "timm convolutional",
    "transformers vit",
    "transformers dinov2",
    "transformers clip",
    "transformers beit",
]
PROCESSORS = {
    "both edges": {"size": {"height": 32, "width": 48}},
    "shortest edge, no crop": {"size": {"shortest_edge": 32}},
    "shortest edge, crop": {
        "size": {"shortest_edge": 45},
        "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32},
    },
    "shortest edge, crop of another shape": {
        "size": {"shortest_edge": 40},
        "do_center_crop": True,
        "crop_size": {"height": 37, "width": 24},
    },
    "crop larger than the image": {
        "size": {"height": 31, "width": 28},
        "do_center_crop": True,
        "crop_size": {"height": 40, "width": 41},
    },
    "no resizing": {
        "do_resize": False,
        "do_center_crop": True,
        "crop_size": {"height": 100, "width": 100},
    },
    "shortest and longest edge": {"size": {"shortest_edge": 32, "longest_edge": 50}},
    "padded": {
        "size": {"max_height": 30, "max_width": 30},
        "do_pad": True,
        "pad_size": {"height": 32, "width": 40},
    },
}


def png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def find_dot(size, dot, prepare) -> np.ndarray:
    """Return where a white square of 9 pixels around `dot` is in the model's input."""
    picture = np.zeros((*size, 3), dtype=np.uint8)
    empty = prepare(png(picture))
    y, x = dot
    picture[y - 4 : y + 5, x - 4 : x + 5] = 255
    change = np.abs(np.asarray(prepare(png(picture)) - empty, dtype=np.float64)).sum(axis=0)
    rows, columns = np.indices(change.shape) + 0.5
    return np.array([(change * rows).sum(), (change * columns).sum()]) / change.sum()


def check_dots(size, encoder):
    """Compare two dots near enough to the centre for every crop, and one on either side of it."""
    picture = read_item(Item(id="i", data=png(np.zeros((*size, 3), np.uint8))), Modality.IMAGE)
    geometry = encoder.companions(picture)["geometry"]
    assert geometry.shape == (1, len(FIELDS))
    assert geometry.dtype == np.int32
    assert geometry[0, :2].tolist() == list(size)
    edge = min(size)
    for sign in (-1, 1):
        dot = (size[0] // 2 + sign * edge // 8, size[1] // 2 - sign * edge // 8)
        found = find_dot(size, dot, lambda data: encoder.prepare(Item(id="i", data=data)))
        # the middle of pixel (y, x) is y + 0.5, x + 0.5
        expected = to_input(geometry[0], np.array(dot) + 0.5)
        np.testing.assert_allclose(expected, found, atol=0.6)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_dot_is_found_where_the_geometry_says(name, tiny):
    encoder = tiny.opened(name)
    assert encoder.companion_names == ("geometry",)
    for size in SIZES:
        check_dots(size, encoder)


class Prepared:
    """A preprocessing with the methods of an encoder that the check needs."""

    def __init__(self, preprocessing) -> None:
        self.preprocessing = preprocessing

    def companions(self, content):
        return self.preprocessing.companions(content)

    def prepare(self, item):
        return self.preprocessing(read_item(item, Modality.IMAGE))


def processor_preprocessing(folder, **settings) -> ProcessorPreprocessing:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**PROCESSOR, **settings}))
    return ProcessorPreprocessing(folder)


@pytest.mark.parametrize("name", PROCESSORS)
def test_every_setting_of_a_processor_is_followed(name, tmp_path):
    preprocessing = processor_preprocessing(tmp_path, **PROCESSORS[name])
    assert preprocessing.companion_names == ("geometry",)
    for size in SIZES:
        check_dots(size, Prepared(preprocessing))


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("input_size", [(3, 64, 64), (3, 48, 80)])
@pytest.mark.parametrize("crop_pct", [0.9, 1.0])
def test_every_crop_mode_of_timm_is_followed(mode, input_size, crop_pct):
    preprocessing = TimmPreprocessing(
        {"input_size": input_size, "crop_mode": mode, "crop_pct": crop_pct}
    )
    for size in SIZES:
        check_dots(size, Prepared(preprocessing))


@pytest.mark.parametrize(
    "settings",
    [
        {"size": {"shortest_edge": 40}, "image_processor_type": "ViltImageProcessor"},
        {"size": {"shortest_edge": 32}, "image_processor_type": "ConvNextImageProcessor"},
    ],
)
def test_a_processor_that_does_more_than_its_settings_say_has_no_geometry(settings, tmp_path):
    """ConvNeXT enlarges by 1 / 0.875 and crops, ViLT rounds down to multiples of 32."""
    preprocessing = processor_preprocessing(tmp_path, **settings)
    assert preprocessing.resampling is None
    assert preprocessing.companion_names == ()
    assert preprocessing.companions(Image.new("RGB", (40, 30))) == {}
    assert preprocessing(Image.new("RGB", (40, 30))).ndim == 3


def test_an_encoder_whose_processor_is_not_understood_still_gives_features(tiny, tmp_path):
    card, folder = tiny.copied("transformers vit", tmp_path)
    settings = {"size": {"shortest_edge": 32}, "image_processor_type": "ConvNextImageProcessor"}
    processor_preprocessing(folder, **settings)
    encoder = build_encoder(card, weights=folder)
    assert encoder.companion_names == ()
    picture = Image.new("RGB", (40, 30))
    assert encoder.companions(picture) == {}
    assert encoder.encode([encoder.preprocess(picture, item_id="i")]).values.shape == (1, 5, 32)


def test_the_geometry_of_a_photo_that_is_stored_on_its_side_is_that_of_the_upright_one(tiny):
    """EXIF orientation 6: 30 x 20 pixels are shown 20 wide and 30 high."""
    photo = Image.new("RGB", (30, 20))
    exif = photo.getexif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    photo.save(stream, "JPEG", exif=exif)
    upright = read_item(Item(id="i", data=stream.getvalue()), Modality.IMAGE)
    geometry = tiny.opened("transformers vit").companions(upright)["geometry"]
    assert geometry.tolist() == [[30, 20, 32, 32, 0, 0, 32, 32]]


def test_the_toys_cells_share_the_whole_image():
    encoder = open_encoder("toy-image")
    assert encoder.companion_names == ("geometry",)
    geometry = encoder.companions(Image.new("RGB", (30, 20)))["geometry"]
    assert geometry.tolist() == [[20, 30, 4, 4, 0, 0, 4, 4]]


def test_the_geometry_is_a_companion_of_rows():
    assert "geometry" in PER_ROW


def test_a_box_is_mapped_by_hand():
    """A photo of 100 x 200 is halved to 50 x 100; columns 25 to 75 of it are the crop.

    The box (20, 80) to (60, 120) is (10, 40) to (30, 60) after resizing, (10, 15) to (30, 35) in
    the crop; a cell of the 5 x 5 grid is 10 pixels, so it is (1, 1.5) to (3, 3.5) in cells.
    """
    geometry = np.array([100, 200, 50, 100, 0, 25, 50, 50], dtype=np.int32)
    box = np.array([[20.0, 80.0], [60.0, 120.0]])
    np.testing.assert_allclose(to_input(geometry, box), [[10, 15], [30, 35]])
    np.testing.assert_allclose(to_grid(geometry, (5, 5), box), [[1, 1.5], [3, 3.5]])


def test_padding_lies_outside_of_the_image():
    """20 x 20 padded to 40 x 30: the image begins at row 10, column 5 of the model's input."""
    geometry = np.array([20, 20, 20, 20, -10, -5, 40, 30], dtype=np.int32)
    np.testing.assert_allclose(to_input(geometry, np.zeros(2)), [10, 5])
    np.testing.assert_allclose(to_original(geometry, np.zeros(2)), [-10, -5])


def test_many_boxes_are_mapped_at_once():
    geometry = np.array(
        [[100, 200, 50, 100, 0, 25, 50, 50], [10, 10, 20, 20, 0, 0, 20, 20]], dtype=np.int32
    )
    boxes = np.array([[[20.0, 80.0], [60.0, 120.0]], [[0.0, 5.0], [10.0, 10.0]]])
    together = to_grid(geometry[:, None], (2, 4), boxes)
    for row in range(2):
        np.testing.assert_array_equal(together[row], to_grid(geometry[row], (2, 4), boxes[row]))


edges = st.integers(1, 4000)


@given(
    numbers=st.tuples(edges, edges, edges, edges, st.integers(-99, 99), st.integers(-99, 99)),
    crop=st.tuples(edges, edges),
    point=st.tuples(st.floats(-10, 4000), st.floats(-10, 4000)),
)
def test_there_and_back_again_is_the_same_point(numbers, crop, point):
    geometry = np.array([*numbers, *crop], dtype=np.int32)
    points = np.array(point)
    back = to_original(geometry, to_input(geometry, points))
    np.testing.assert_allclose(back, points, rtol=1e-9, atol=1e-6)
    back = from_grid(geometry, (7, 9), to_grid(geometry, (7, 9), points))
    np.testing.assert_allclose(back, points, rtol=1e-9, atol=1e-6)


def geometry_of(original, resized, offset, crop):
    """Return a line of `FIELDS`; all are (height, width), the offset (top, left)."""
    return np.array([*original, *resized, *offset, *crop], dtype=np.int32)


SQUARE = geometry_of((8, 8), (8, 8), (0, 0), (8, 8))
WIDE = geometry_of((10, 20), (40, 80), (0, 20), (40, 40))  # four times as large, x from 5 to 15
TALL = geometry_of((30, 10), (12, 4), (4, 0), (4, 4))  # 0.4 times as large, y from 10 to 20
SQUASHED = geometry_of((10, 20), (8, 8), (0, 0), (8, 8))  # 0.8 and 0.4 times as large
PADDED = geometry_of((4, 8), (4, 8), (-2, 0), (8, 8))  # two rows above, two below


@pytest.mark.parametrize(
    ("geometry", "grid", "box", "expected"),
    [
        pytest.param(SQUARE, (2, 2), (2, 0, 8, 4), [0.5, 1, 0, 0], id="square"),
        pytest.param(SQUARE, (2, 2), (0, 0, 8, 8), [1, 1, 1, 1], id="all of a square"),
        pytest.param(SQUARE, (2, 2), (3, 3, 5, 5), [1 / 16] * 4, id="the middle of a square"),
        # x from 7.5 to 12.5 is 10 to 30 of 40, y from 0 to 5 is the upper row
        pytest.param(WIDE, (2, 2), (7.5, 0, 12.5, 5), [0.5, 0.5, 0, 0], id="wide"),
        pytest.param(WIDE, (2, 4), (0, 0, 7.5, 5), [1, 0, 0, 0, 0, 0, 0, 0], id="half in the crop"),
        pytest.param(WIDE, (2, 2), (0, 0, 5, 10), [0] * 4, id="left of the crop"),
        pytest.param(WIDE, (2, 2), (15, 0, 20, 10), [0] * 4, id="right of the crop"),
        # y from 12.5 to 30 is 1 to 8 of 4, cut at 4; x from 0 to 5 is the left column
        pytest.param(TALL, (2, 2), (0, 12.5, 5, 30), [0.5, 0, 1, 0], id="tall"),
        pytest.param(TALL, (2, 2), (0, 21, 10, 30), [0] * 4, id="below the crop"),
        pytest.param(TALL, (2, 2), (0, 0, 10, 9), [0] * 4, id="above the crop"),
        # all of the width, y from 0 to 2.5 is 0 to 2 of 8
        pytest.param(SQUASHED, (2, 2), (0, 0, 20, 2.5), [0.5, 0.5, 0, 0], id="squashed"),
        # the rows of the picture are 2 to 6 of 8
        pytest.param(PADDED, (4, 1), (0, 0, 8, 4), [0, 1, 1, 0], id="padded"),
        pytest.param(SQUARE, (2, 2), (3, 3, 3, 5), [0] * 4, id="empty"),
        pytest.param(SQUARE, (2, 2), (5, 3, 3, 5), [0] * 4, id="right to left"),
    ],
)
def test_a_box_covers_patches_as_worked_out_by_hand(geometry, grid, box, expected):
    shares = coverage(np.array([box], dtype=np.float32), geometry, grid)
    np.testing.assert_allclose(shares, [expected], atol=1e-12)
    assert num_uncovered(shares) == (not any(expected))


def test_boxes_of_several_images_take_a_line_of_geometry_each():
    boxes = np.array([(2, 0, 8, 4), (7.5, 0, 12.5, 5), (0, 0, 5, 10)])
    shares = coverage(boxes, np.stack([SQUARE, WIDE, WIDE]), (2, 2))
    np.testing.assert_allclose(shares, [[0.5, 1, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0]])
    assert num_uncovered(shares) == 1
    nothing = coverage(np.empty((0, 4)), SQUARE, (2, 2))
    assert nothing.shape == (0, 4)
    assert num_uncovered(nothing) == 0


@given(data=st.data())
def test_coverage_is_what_counting_small_pixels_gives(data):
    """Each picture is enlarged by whole numbers and cropped, so that sixteenths fall on edges."""
    height, width, times_y, times_x = (data.draw(st.integers(1, 6)) for _ in range(4))
    resized = (height * times_y, width * times_x)
    rows, columns, patch = (data.draw(st.integers(1, 3)) for _ in range(3))
    crop = (rows * patch, columns * patch)
    top, left = (data.draw(st.integers(-2, edge)) for edge in resized)
    x = sorted(data.draw(st.lists(st.integers(0, 2 * width), min_size=2, max_size=2)))
    y = sorted(data.draw(st.lists(st.integers(0, 2 * height), min_size=2, max_size=2)))
    geometry = geometry_of((height, width), resized, (top, left), crop)
    shares = coverage(np.array([[x[0], y[0], x[1], y[1]]]) / 2, geometry, (rows, columns))
    # the input in half pixels: each is wholly in the box or not, as the box ends on half pixels
    inside = np.zeros((2 * crop[0], 2 * crop[1]))
    for row, column in np.ndindex(inside.shape):
        at_y = ((row + 0.5) / 2 + top) / times_y * 2
        at_x = ((column + 0.5) / 2 + left) / times_x * 2
        inside[row, column] = y[0] < at_y < y[1] and x[0] < at_x < x[1]
    counted = inside.reshape(rows, 2 * patch, columns, 2 * patch).mean(axis=(1, 3))
    np.testing.assert_allclose(shares, counted.reshape(1, -1), atol=1e-9)


@pytest.mark.parametrize("geometry", [SQUARE, WIDE, TALL, SQUASHED, PADDED])
def test_each_patch_covers_its_own_box_alone(geometry):
    grid = (2, 4)
    boxes = patch_boxes(geometry, grid)
    np.testing.assert_allclose(coverage(boxes, geometry, grid), np.eye(8), atol=1e-9)


def test_patches_of_a_wide_picture_lie_in_its_middle():
    """The crop is x from 5 to 15 of 20; stretched over the picture, patches would be 10 wide."""
    assert patch_boxes(WIDE, (2, 2)).tolist() == [
        [5, 0, 10, 5],
        [10, 0, 15, 5],
        [5, 5, 10, 10],
        [10, 5, 15, 10],
    ]
    assert patch_boxes(TALL[None], (1, 1)).tolist() == [[0, 10, 10, 20]]
