"""Any folder of images alone, to search in."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..base import missing_dataset
from ..readers.caption_source import CaptionedImages, CaptionSource, splits_by_folder
from ..readers.image_files import LeftOut, image_files


class ImagesSource(CaptionSource):
    """Read all images below a folder; they have neither texts nor classes.

    Image ids are paths below the folder. Folders called train, val and test are splits, if all
    images stand in such; else all are `test`.

    Args:
        place: The folder.

    Raises:
        DatasetNotFoundError: There is no image.
        DatasetFormatError: Two images would get the same id.
    """

    title = "Your own images alone, in any folders: to search in"

    def __init__(self, place: Path, /) -> None:
        left_out = LeftOut(place)
        files = image_files(place, left_out) if place.is_dir() else []
        paths = {path.relative_to(place).as_posix(): path for path in files}
        if not paths:
            get_it = "It is your own folder of images."
            raise missing_dataset("images", place, ("image.jpg in any folder",), get_it)
        images = CaptionedImages(place, dict.fromkeys(paths, ()), _splits(paths))
        images = replace(images, notes=left_out.notes())
        super().__init__(place, images, paths)


def _splits(names: Iterable[str]) -> dict[str, str]:
    split_of = splits_by_folder(names)
    return dict.fromkeys(names, "test") if split_of is None else split_of
