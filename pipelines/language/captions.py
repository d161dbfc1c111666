"""Captions of images that people give in a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...featcache.errors import DatasetFormatError, SpecError
from ...featcache.home import expanded
from ...featcache.sources.tables.columns import caption_names
from ...featcache.sources.tables.table import TableFormat, open_table
from ...featcache.sources.tables.table_files import TableFiles
from ...featcache.sources.tables.text_files import captions_of as captions_in
from ...featcache.sources.tables.text_files import is_missing

_IMAGE = ("image", "image_id", "id")


def read_captions(path: Path) -> dict[str, str]:
    """Return the caption of each image of a table, the first where there are several.

    Args:
        path: csv, tsv, json, jsonl or parquet with the columns `image`, which holds ids, and
            `caption`.

    Raises:
        SpecError: The file is not there, or has no such columns.
        DatasetFormatError: It is no table.
    """
    path = expanded(path)
    if not path.is_file():
        raise SpecError(f"--captions {path}: there is no such file")
    table = open_table(TableFiles.of(path), TableFormat())
    images, texts = table.usual_columns(_IMAGE), caption_names(table.columns)
    if not images or not texts:
        raise SpecError(
            f"--captions {path} needs the columns image and caption, found {list(table.columns)}"
        )
    captions: dict[str, str] = {}
    for _, cells in table.read([images[0], texts[0]]):
        image = cells.get(images[0])
        first = next(filter(str.strip, captions_in(cells.get(texts[0]))), None)
        if first is not None and not is_missing(image):
            captions.setdefault(str(image).strip(), first.strip())
    if not captions:
        raise DatasetFormatError(f"--captions {path}: no row has an image and a caption")
    return captions


def captions_of(images: Sequence[str], captions: Mapping[str, str], path: Path) -> list[str | None]:
    """Return the caption of each image, or None.

    Args:
        images: Ids.
        captions: Caption by id.
        path: Where these are from, for messages.

    Raises:
        SpecError: Not one of the images has a caption.
    """
    found = [captions.get(image) for image in images]
    if images and not any(caption is not None for caption in found):
        raise SpecError(
            f"--captions {path} has none of the images: it names {next(iter(captions))!r:.60}, and "
            f"the dataset {images[0]!r:.60}"
        )
    return found
