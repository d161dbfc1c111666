"""One dataset with every kind of odd picture, from files to rows."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightalign.featcache.reading.reader import FeatureReader

from ..pipelines.conftest import extract_toy


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    """Return a PNG of 20,000 x 20,000 pixels in a few hundred kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 20_001 * 1_000)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rotated() -> bytes:
    """Return a JPEG that is stored red over blue and shown, by its EXIF, blue left of red."""
    stored = Image.new("RGB", (16, 16), (255, 0, 0))
    stored.paste((0, 0, 255), (0, 8, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by a quarter
    return encoded(stored, "JPEG", exif=exif, quality=95)


def upright() -> bytes:
    shown = Image.new("RGB", (16, 16), (0, 0, 255))
    shown.paste((255, 0, 0), (8, 0, 16, 16))
    return encoded(shown, "JPEG", quality=95)


def palette() -> bytes:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    return encoded(image, "PNG", transparency=0)


RED = encoded(Image.new("RGB", (64, 64), (200, 30, 30)), "JPEG")
PICTURES = {
    "plain.jpg": RED,
    "truncated.jpg": RED[: len(RED) // 2],
    "empty.jpg": b"",
    "bomb.png": bomb(),
    "cmyk.jpg": encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"),
    "sixteen.png": encoded(Image.fromarray(np.full((8, 8), 65535, np.uint16)), "PNG"),
    "palette.png": palette(),
    "rotated.jpg": rotated(),
    "upright.jpg": upright(),
    "pixel.png": encoded(Image.new("RGB", (1, 1), (255, 255, 255)), "PNG"),
    "white.png": encoded(Image.new("RGB", (8, 8), (255, 255, 255)), "PNG"),
}
BROKEN = {"truncated.jpg", "empty.jpg", "bomb.png", "absent.jpg"}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    lines = ["image,caption,split"]
    for name in [*PICTURES, "absent.jpg"]:
        if name in PICTURES:
            (folder / name).write_bytes(PICTURES[name])
        lines.append(f"{name},a caption,train")
    (folder / "table.csv").write_text("\n".join(lines))
    home: Path = tmp_path_factory.mktemp("home")
    return extract_toy(
        home, "toy-image", data=f"image-text-table={folder}", source={}, split="train", max_bad=0.5
    ).stores[0]


def features(report, name: str) -> np.ndarray:
    reader = FeatureReader(report.folder)
    return reader.gather([reader.row_of[name]]).values.astype(np.float32)


def test_what_cannot_be_decoded_is_listed_with_its_reason(report):
    assert {item.id for item in report.skipped} == BROKEN
    assert report.rows == len(PICTURES) + 1 - len(BROKEN)
    (reason,) = [item.reason for item in report.skipped if item.id == "bomb.png"]
    assert reason == "bomb.png: has more than the 64,000,000 pixels allowed"


@pytest.mark.parametrize("name", sorted(set(PICTURES) - BROKEN))
def test_odd_but_whole_pictures_get_a_row(report, name):
    assert np.isfinite(features(report, name)).all()


def test_exif_rotation_reaches_the_features(report):
    np.testing.assert_allclose(
        features(report, "rotated.jpg"), features(report, "upright.jpg"), atol=0.05
    )


@pytest.mark.parametrize("name", ["pixel.png", "sixteen.png", "palette.png"])
def test_white_is_white_however_it_is_stored(report, name):
    """One white pixel, 16-bit 65535, and a transparent palette entry on white are all white."""
    np.testing.assert_allclose(features(report, name), features(report, "white.png"), atol=1e-3)
