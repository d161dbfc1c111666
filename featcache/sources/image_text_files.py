"""Any folder of images, each with a text file of its captions beside it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..regular_files import is_regular
from ..source import missing_dataset
from ._caption_files import read_lines
from ._caption_source import (
    SPLIT_ORDER,
    CaptionedImages,
    CaptionSource,
    counted,
    split_name,
    with_hashed_splits,
)
from ._image_files import image_files


class ImageTextFilesSource(CaptionSource):
    """Read images below a folder, with the lines of `NAME.txt` beside `NAME.jpg` as its captions.

    Image ids are paths below the folder. Folders called train, val and test are splits, if all
    images stand in such; else splits come from a hash of the ids.

    Args:
        place: The folder.

    Raises:
        DatasetNotFoundError: No image has a text file beside it.
        DatasetFormatError: Two images would get the same id, or a text is not UTF-8.
    """

    title = "Your own images, each with its captions in a .txt file beside it"

    def __init__(self, place: Path, /) -> None:
        paths = {path.relative_to(place).as_posix(): path for path in image_files(place)}
        captions = {name: _captions(path) for name, path in paths.items()}
        if not any(captions.values()):
            get_it = "It is your own folder of images."
            raise missing_dataset("image-text-files", place, ("image.jpg with image.txt",), get_it)
        without = sum(texts is None for texts in captions.values())
        notes = (f"{counted(without, 'image')} without a .txt file",) if without else ()
        images = CaptionedImages(place, {one: texts or () for one, texts in captions.items()}, {})
        super().__init__(place, _with_splits(replace(images, notes=notes)), paths)


def _captions(image: Path) -> Sequence[str] | None:
    file = image.with_suffix(".txt")
    if not is_regular(file):
        return None
    lines = (line.strip() for _, line in read_lines(file))
    return [line for line in lines if line]


def _with_splits(images: CaptionedImages) -> CaptionedImages:
    folders = {name: split_name(name.partition("/")[0]) for name in images.captions}
    if all("/" in name and split in SPLIT_ORDER for name, split in folders.items()):
        return replace(images, split_of=folders)
    remedy = "to choose, put the images into folders train, val and test"
    return with_hashed_splits(images, remedy=remedy)
