"""Decoding is bounded, says why it refuses, and gives the 8-bit RGB values worked out by hand."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFile

from lightalign.featcache.errors import UnreadableItemError
from lightalign.featcache.modalities.image import MAX_PIXELS, decode_image

# Eight grey values whose 8-bit neighbours are known: v / 257 rounded to the nearest.
GREY_16 = np.array([[0, 128, 129, 257, 32768, 65278, 65406, 65535]], dtype=np.uint16)
GREY_8 = [0, 0, 1, 1, 128, 254, 254, 255]


def encode(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(width=40, height=30):
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(width, height, bits, colour_type, raw, *extra_chunks):
    """Write a PNG by hand, for headers that Pillow cannot or would not write."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra_chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def pixels(data):
    """Return the decoded pixels of the only line of an image."""
    image = decode_image(data, item_id="x")
    assert image.mode == "RGB"
    return [image.getpixel((x, 0)) for x in range(image.width)]


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_rgb_comes_back_as_it_was(format):
    decoded = decode_image(encode(noise(), format), item_id="x")
    assert np.array_equal(np.asarray(decoded), np.asarray(noise()))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000"])
def test_one_pixel_is_an_image(format):
    decoded = decode_image(encode(Image.new("RGB", (1, 1), "white"), format), item_id="x")
    assert (decoded.mode, decoded.size) == ("RGB", (1, 1))
    assert decoded.getpixel((0, 0)) == (255, 255, 255)


def test_too_many_pixels_are_refused_from_the_header_alone():
    # 20,000 x 20,000 pixels are announced and not one is there: decoding would fail otherwise.
    with pytest.raises(UnreadableItemError, match=r"^big: has more than the 64,000,000 pixels"):
        decode_image(png(20_000, 20_000, 8, 2, b""), item_id="big")


def test_the_pixel_limit_is_our_own_and_includes_the_limit():
    side = 8_000
    assert side * side == MAX_PIXELS
    with pytest.raises(UnreadableItemError, match="8000 x 8001 pixels are more than"):
        decode_image(png(side, side + 1, 8, 0, b""), item_id="x")
    with pytest.raises(UnreadableItemError, match="cannot be decoded"):  # not for its size
        decode_image(png(side, side, 8, 0, b""), item_id="x")


def test_an_empty_file_is_refused():
    with pytest.raises(UnreadableItemError, match=r"^photo-7: the image file is empty$"):
        decode_image(b"", item_id="photo-7")


@pytest.mark.parametrize(
    "data",
    [b"\x00", b"hello, this is text", b"%PDF-1.7\n", encode(noise(), "EPS")],
    ids=["byte", "text", "pdf", "postscript"],
)
def test_what_is_no_raster_image_is_refused_without_naming_memory(data):
    with pytest.raises(UnreadableItemError) as caught:
        decode_image(data, item_id="photo-7")
    assert str(caught.value) == "photo-7: is no image in a known format"


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_refused(format, kept):
    data = encode(noise(), format)
    with pytest.raises(UnreadableItemError, match=r"^x: "):
        decode_image(data[: int(len(data) * kept)], item_id="x")


def outcome(data):
    """Return the mode of the decoded image or the one-line reason why there is none."""
    try:
        return decode_image(data, item_id="x").mode
    except UnreadableItemError as error:
        return str(error)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_corrupt_files_decode_or_are_refused_but_raise_nothing_else(data):
    format = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "PPM"]))
    content = bytearray(encode(noise(12, 9), format))
    places = st.integers(0, len(content) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        content[place] = value
    assert outcome(bytes(content)).startswith(("RGB", "x: "))


# How the stored grey values [[1, 2], [3, 4]] are to be seen (EXIF 2.3, tag 0x0112): the tag says on
# which sides of the upright picture the first stored row and the first stored column lie.
UPRIGHT = {
    1: [[1, 2], [3, 4]],  # top, left
    2: [[2, 1], [4, 3]],  # top, right
    3: [[4, 3], [2, 1]],  # bottom, right
    4: [[3, 4], [1, 2]],  # bottom, left
    5: [[1, 3], [2, 4]],  # left, top
    6: [[3, 1], [4, 2]],  # right, top
    7: [[4, 2], [3, 1]],  # right, bottom
    8: [[2, 4], [1, 3]],  # left, bottom
}


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation_is_applied(orientation, format):
    stored = Image.fromarray(np.array([[1, 2], [3, 4]], dtype=np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    decoded = decode_image(encode(stored, format, exif=exif), item_id="x")
    assert np.asarray(decoded)[:, :, 0].tolist() == UPRIGHT[orientation]


def test_exif_rotation_swaps_the_sides_of_a_jpeg():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    assert decode_image(encode(noise(40, 30), "JPEG", exif=exif), item_id="x").size == (30, 40)


def test_a_broken_exif_block_leaves_the_picture_as_stored():
    data = encode(noise(40, 30), "JPEG", exif=b"Exif\x00\x00no TIFF header here")
    assert decode_image(data, item_id="x").size == (40, 30)


def test_cmyk_becomes_rgb():
    """Ink (0, 255, 255, 0) absorbs green and blue: red. Black ink alone: black."""
    image = Image.new("CMYK", (2, 1), (0, 255, 255, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    assert pixels(encode(image, "TIFF")) == [(255, 0, 0), (0, 0, 0)]


def test_cmyk_jpeg_becomes_rgb():
    data = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    red, green, blue = decode_image(data, item_id="x").getpixel((4, 4))
    assert red >= 250
    assert max(green, blue) <= 5


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(format):
    assert pixels(encode(Image.fromarray(GREY_16), format)) == [(v, v, v) for v in GREY_8]


def test_big_endian_16_bit_grey_is_scaled():
    tags = [(256, 3, 8), (257, 3, 1), (258, 3, 16), (262, 3, 1), (273, 4, 110), (279, 4, 16)]
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1)
        + struct.pack(">HH" if kind == 3 else ">I", value, *[0] * (kind == 3))
        for tag, kind, value in tags
    )
    head = b"MM\x00*" + struct.pack(">IH", 8, len(tags)) + entries + struct.pack(">I", 0)
    data = head.ljust(110, b"\x00") + GREY_16.astype(">u2").tobytes()
    assert pixels(data) == [(v, v, v) for v in GREY_8]


def test_16_bit_pgm_is_scaled():
    data = b"P5 8 1 65535\n" + GREY_16.astype(">u2").tobytes()
    assert pixels(data) == [(v, v, v) for v in GREY_8]


def test_32_bit_grey_within_16_bits_is_scaled():
    data = encode(Image.fromarray(GREY_16.astype(np.int32)), "TIFF")
    assert pixels(data) == [(v, v, v) for v in GREY_8]


@pytest.mark.parametrize("value", [-1, 65536, 2**31 - 1])
def test_32_bit_grey_beyond_16_bits_is_refused(value):
    data = encode(Image.fromarray(np.array([[0, value]], dtype=np.int32)), "TIFF")
    with pytest.raises(UnreadableItemError, match="not within 0 to 65535"):
        decode_image(data, item_id="x")


def test_floating_point_is_refused():
    data = encode(Image.fromarray(np.array([[0.5]], dtype=np.float32)), "TIFF")
    with pytest.raises(UnreadableItemError, match=r"^x: .*floating-point pixels have no agreed"):
        decode_image(data, item_id="x")


def test_black_and_white_and_grey_become_rgb():
    assert pixels(encode(Image.new("1", (1, 1), 1), "PNG")) == [(255, 255, 255)]
    assert pixels(encode(Image.new("L", (1, 1), 77), "PNG")) == [(77, 77, 77)]


def test_transparent_rgba_is_blended_with_white():
    """Red at alpha 51 = 255 / 5 over white: 0.2 (255, 0, 0) + 0.8 (255, 255, 255)."""
    image = Image.new("RGBA", (3, 1), (255, 0, 0, 51))
    image.putpixel((1, 0), (255, 0, 0, 0))
    image.putpixel((2, 0), (255, 0, 0, 255))
    assert pixels(encode(image, "PNG")) == [(255, 204, 204), (255, 255, 255), (255, 0, 0)]


def test_transparent_grey_is_blended_with_white():
    image = Image.new("LA", (2, 1), (0, 51))
    image.putpixel((1, 0), (100, 0))
    assert pixels(encode(image, "PNG")) == [(204, 204, 204), (255, 255, 255)]


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_palette_entry_becomes_white(format):
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert pixels(encode(image, format, transparency=0)) == [(255, 255, 255), (0, 0, 255)]


@pytest.mark.parametrize(
    ("bits", "colour_type", "key", "raw", "expected"),
    [
        (8, 0, ">H", b"\x00\x05\x06", [(255, 255, 255), (6, 6, 6)]),
        (8, 2, ">xBxBxB", b"\x00\x05\x05\x05\x06\x06\x06", [(255, 255, 255), (6, 6, 6)]),
        (16, 0, ">H", b"\x00\x00\x05\x02\x02", [(255, 255, 255), (2, 2, 2)]),
    ],
    ids=["grey", "rgb", "grey-16"],
)
def test_a_transparent_colour_becomes_white(bits, colour_type, key, raw, expected):
    """The colour 5 is declared transparent; 0x0202 = 514 = 2 x 257."""
    values = (5,) * (3 if colour_type == 2 else 1)
    data = png(2, 1, bits, colour_type, raw, (b"tRNS", struct.pack(key, *values)))
    assert pixels(data) == expected


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_is_taken(format):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("white", "black")]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:])
    assert decode_image(data, item_id="x").getpixel((0, 0)) == (255, 255, 255)


def test_decoding_leaves_the_global_state_of_pillow_alone():
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    assert before[1] is False
    decode_image(encode(noise(), "JPEG"), item_id="x")
    with pytest.raises(UnreadableItemError):
        decode_image(encode(noise(), "JPEG")[:200], item_id="x")
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
