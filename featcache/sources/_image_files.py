"""Find image files below a folder."""

from collections.abc import Iterator
from pathlib import Path

from ..regular_files import is_regular
from ._caption_files import format_error

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jfif", "jpe", "png", "webp", "gif", "bmp", "tif", "tiff"),
        *("ppm", "jp2", "avif"),
    )
)


def image_files(folder: Path) -> Iterator[Path]:
    """Yield the images below a folder in a stable order; hidden ones are none.

    Raises:
        DatasetFormatError: There are hundreds of folders in one another.
    """
    try:
        below = sorted(folder.rglob("*"))
    except RecursionError as error:
        raise format_error(folder, "", "holds too many folders in one another") from error
    for path in below:
        hidden = any(part[:1] == "." for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and is_regular(path):
            yield path
