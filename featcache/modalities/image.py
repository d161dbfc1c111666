"""Images: untrusted files decoded into RGB, within bounds and without Pillow's global switches."""

import base64
import io
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from typing_extensions import override

from ..errors import UnreadableItemError, one_line
from ..types import Item
from .base import PROBE_ITEMS, ModalityReader, readable_size
from .pictures.patch_geometry import Size
from .pictures.scene_pictures import draw_png
from .pictures.scenes import draw_scenes

MAX_PIXELS = 64_000_000  # 192 MB as RGB: the largest phone photos pass, 20,000 x 20,000 does not

# Raster formats that data sets use. A fixed list, because Pillow would also hand PostScript to an
# external interpreter. AVIF stands last: Pillow before 11.3 cannot read it.
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF")

# What Pillow's decoders raise for broken files, found by truncating and corrupting each format.
# `Warning` is here for programs that turn warnings into errors.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    RuntimeError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    MemoryError,  # of sizes that a header makes up: those that are decoded are within bounds
    Warning,
    struct.error,
    zlib.error,
)

_PROBE_PIXELS = 224  # of a side, as most encoders read; recorded cosines are of these pictures

_ORIENTATION = 0x0112  # the EXIF tag; the table says which transposition undoes each value
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageModality(ModalityReader):
    """Read images from files, or from the bytes of one."""

    singular, plural = "image", "images"
    features = ("tokens", "cls", "mean", "pooled", "grid")
    usual_encoder = "dino-vits16"
    refusals: ClassVar[Mapping[str, str]] = {
        "last": "features 'last' are those of a text's last token; of images: cls"
    }

    @override
    def read(self, item: Item) -> Image.Image:
        return decode_image(item.read_bytes(), item_id=item.id)

    @override
    def fingerprinted(self, item: Item) -> list[Any]:
        # the size stands for the content: to read every file would cost as much as to decode it
        return [item.id, readable_size(item)]

    @override
    def probe_items(self, count: int = PROBE_ITEMS) -> Sequence[Item]:
        pictures = [draw_png(scene, _PROBE_PIXELS) for scene in draw_scenes("test", count, seed=0)]
        return [Item(id=f"probe-{index}", data=data) for index, data in enumerate(pictures)]


def decode_image(data: bytes, *, item_id: str) -> Image.Image:
    """Decode an image file to RGB, upright, 8 bits a channel.

    The first frame of an animation is taken and EXIF rotation is applied. Transparent pixels are
    blended with white. 16-bit grey v becomes round(v / 257), so that 65535 is white. Integer
    images of 32 bits are read the same way if their values lie in 0 to 65535; other 32-bit and
    all floating-point images have no agreed white and are refused.

    Args:
        data: Content of the image file.
        item_id: Id of the item, for messages.

    Raises:
        UnreadableItemError: The data is empty, truncated, no image in one of `FORMATS`, has more
            than `MAX_PIXELS` pixels (seen in the header, before any pixel is decoded), or has
            pixel values without an agreed white.
    """
    if not data:
        raise UnreadableItemError(f"{item_id}: the image file is empty")
    with _refusing(item_id):
        return upright_rgb(_open(data), item_id=item_id)


def check_resized(original: Size, resized: Size, *, item_id: str) -> None:
    """Pass if a picture can be resized within `MAX_PIXELS`.

    Where proportions are kept, one row of 60,000 pixels becomes 256 rows of 15 million. Resampling
    goes along one edge first, so that what is in between counts, too.

    Args:
        original: Height and width before.
        resized: Height and width after.
        item_id: Id of the item, for messages.

    Raises:
        UnreadableItemError: It would become larger, or an edge of it nothing.
    """
    between = (original[0] * resized[1], resized[0] * original[1])
    if min(resized) >= 1 and max(resized[0] * resized[1], *between) <= MAX_PIXELS:
        return
    before, after = (f"{height} x {width}" for height, width in (original, resized))
    limit = f"more than the {MAX_PIXELS:,} pixels allowed"
    if resized[0] * resized[1] <= MAX_PIXELS:
        limit = f"{limit} in between" if min(resized) >= 1 else "which is no picture"
    raise UnreadableItemError(
        f"{item_id}: resized from {before} (height x width) it would become {after}, {limit}"
    )


def upright_rgb(image: Image.Image, *, item_id: str) -> Image.Image:
    """Return an opened picture as `decode_image` would return it.

    Raises:
        UnreadableItemError: It cannot be decoded, has no pixels or more than `MAX_PIXELS`, or
            values without an agreed white.
    """
    width, height = image.size
    if width < 1 or height < 1:
        raise UnreadableItemError(f"{item_id}: {width} x {height} pixels are no picture")
    if width * height > MAX_PIXELS:
        raise UnreadableItemError(
            f"{item_id}: {width} x {height} pixels are more than the {MAX_PIXELS:,} allowed"
        )
    with _refusing(item_id):
        image.load()  # which turns a TIFF upright: its orientation is read afterwards
        return _to_rgb(_upright(image))


@contextmanager
def _refusing(item_id: str) -> Iterator[None]:
    try:
        yield
    except UnreadableItemError:
        raise
    except UnidentifiedImageError as error:
        # Pillow's own text names an object in memory.
        raise UnreadableItemError(f"{item_id}: is no image in a known format") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableItemError(
            f"{item_id}: has more than the {MAX_PIXELS:,} pixels allowed"
        ) from error
    except _DECODE_ERRORS as error:
        raise UnreadableItemError(f"{item_id}: cannot be decoded: {one_line(error)}") from error


def _open(data: bytes) -> Image.Image:
    Image.init()  # registers all formats once; without it a format that Pillow lacks is a KeyError
    formats = [name for name in FORMATS if name in Image.OPEN]
    return Image.open(io.BytesIO(data), formats=formats)  # reads the header only


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _DECODE_ERRORS:
        return image  # a broken EXIF block says nothing about the rotation; the pixels are fine
    method = _UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed white")
    if image.mode.startswith("I"):
        return _grey_from_16_bits(image).convert("RGB")
    if image.has_transparency_data:
        pixels = image.convert("RGBA")
        white = Image.new("RGBA", pixels.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, pixels).convert("RGB")
    return image.convert("RGB")


def _grey_from_16_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255, which turns nearly every 16-bit picture white.
    values = np.asarray(image).astype(np.int32)
    if values.size and not 0 <= values.min() <= values.max() <= 65535:
        raise ValueError(f"grey values {values.min()} to {values.max()} are not within 0 to 65535")
    grey = ((values + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def jpeg_address(image: Image.Image, *, quality: int) -> str:
    """Return an image as the address of a page that holds it: `data:image/jpeg;base64,...`.

    Args:
        image: In RGB.
        quality: Of the JPEG, 0 to 100.
    """
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
