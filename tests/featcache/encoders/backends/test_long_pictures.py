"""Pictures a hundred bytes long whose resizing would take gigabytes are refused in one line."""

import io
import resource
import zlib
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from lightalign.featcache.encoders.backends._image_preprocessing import (
    Preprocessing,
    ProcessorPreprocessing,
    TimmPreprocessing,
)
from lightalign.featcache.errors import UnreadableItemError
from lightalign.featcache.modalities.image import check_resized, decode_image
from lightalign.featcache.types import Item

from ...modalities.pictures.test_patch_geometry import PROCESSORS, processor_preprocessing

LONG = [(60_000, 1), (1, 60_000), (1, 2_000)]


def png(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def test_a_row_of_60_000_pixels_would_become_15_million_wide() -> None:
    """60,000 / 1 * 256 = 15,360,000."""
    with pytest.raises(UnreadableItemError) as refused:
        check_resized((1, 60_000), (256, 15_360_000), item_id="long.png")
    assert str(refused.value) == (
        "long.png: resized from 1 x 60000 (height x width) it would become 256 x 15360000, more "
        "than the 64,000,000 pixels allowed"
    )


def test_what_resampling_makes_in_between_counts() -> None:
    """One column of 1,000,000 rows becomes 1,000,000 x 224 before it becomes 224 x 224."""
    with pytest.raises(UnreadableItemError, match=r"224 x 224, more .* allowed in between"):
        check_resized((1_000_000, 1), (224, 224), item_id="i")


def test_an_edge_of_nothing_is_refused() -> None:
    with pytest.raises(UnreadableItemError, match="0 x 1333, which is no picture"):
        check_resized((1, 60_000), (0, 1333), item_id="i")


@pytest.mark.parametrize("size", [(1, 1), (8_000, 8_000), (3_000, 20_000), (1, 5_000)])
def test_photos_of_any_usual_size_pass(size: tuple[int, int]) -> None:
    check_resized(size, (224, 224), item_id="i")


def refusal(preprocessing: Preprocessing, size: tuple[int, int]) -> str | None:
    try:
        tensor = preprocessing.of_item(Image.new("RGB", size), item_id="i")
    except UnreadableItemError as error:
        return str(error)
    assert tensor.numel() <= 3 * 64_000_000
    return None


def survives(preprocessing: Preprocessing) -> None:
    """Prepare long pictures with little more memory than there is in use now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * 2**30, hard))
    try:
        refusals = [refusal(preprocessing, size) for size in LONG]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert all("\n" not in one and "memory" not in one for one in refusals if one)


UNKNOWN = {
    "vilt": {"size": {"shortest_edge": 40}, "image_processor_type": "ViltImageProcessor"},
    "convnext": {"size": {"shortest_edge": 32}, "image_processor_type": "ConvNextImageProcessor"},
}


# without a crop all of a large picture would be normalised, which takes seconds and no more
@pytest.mark.parametrize("name", [one for one in [*PROCESSORS, *UNKNOWN] if "no crop" not in one])
def test_no_processor_explodes(name, tmp_path) -> None:
    settings = {**PROCESSORS, **UNKNOWN}[name]
    preprocessing = processor_preprocessing(tmp_path, **settings)
    assert isinstance(preprocessing, ProcessorPreprocessing)
    survives(preprocessing)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("input_size", [(3, 224, 224), (3, 48, 80)])
def test_no_crop_mode_of_timm_explodes(mode, input_size) -> None:
    survives(TimmPreprocessing({"input_size": input_size, "crop_mode": mode, "crop_pct": 0.9}))


@pytest.mark.parametrize("name", ["timm vit", "timm convolutional", "transformers vit"])
def test_an_encoder_refuses_what_would_explode(name, tiny) -> None:
    """Each resizes 9 million columns of one pixel to more than is allowed, or in between."""
    with pytest.raises(UnreadableItemError, match="it would become"):
        tiny.opened(name).preprocess(Image.new("RGB", (9_000_000, 1)), item_id="i")


def test_the_toy_encoder_refuses_what_would_explode(tiny) -> None:
    with pytest.raises(UnreadableItemError, match="it would become"):
        tiny.opened("toy-image").preprocess(Image.new("RGB", (1, 60_000_000)), item_id="i")


def test_a_bomb_of_text_beside_the_pixels_is_one_line() -> None:
    texts = PngImagePlugin.PngInfo()
    for number in range(80):
        texts.add_text(f"key{number}", "x" * 10**6, zip=True)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG", pnginfo=texts)
    with pytest.raises(UnreadableItemError, match="i: cannot be decoded"):
        decode_image(buffer.getvalue(), item_id="i")


def test_a_damaged_colour_profile_leaves_the_pixels() -> None:
    buffer = io.BytesIO()
    broken = zlib.compress(b"no profile")
    Image.new("RGB", (4, 4), (9, 8, 7)).save(buffer, "PNG", icc_profile=broken)
    assert decode_image(buffer.getvalue(), item_id="i").getpixel((0, 0)) == (9, 8, 7)


@pytest.mark.parametrize("header", [b"P6 0 0 255\n", b"P6 0 5 255\n", b"P6 5 0 255\n"])
def test_a_picture_without_pixels_is_one_line(header: bytes) -> None:
    with pytest.raises(UnreadableItemError, match=r"^i: "):
        decode_image(header, item_id="i")


def test_an_opened_picture_is_bounded_like_a_file(tiny) -> None:
    from lightalign.featcache.modalities.image import upright_rgb

    with pytest.raises(UnreadableItemError, match="more than the 64,000,000 allowed"):
        upright_rgb(Image.new("L", (9_000, 9_000)), item_id="i")


def test_a_long_picture_is_one_line_of_what_prepares_it(tiny) -> None:
    with pytest.raises(UnreadableItemError, match="it would become"):
        tiny.opened("timm convolutional").prepare(Item(id="long.png", data=png((9_000_000, 1))))
