"""Any folder of images alone, to search in."""

from pathlib import Path

from ..base import missing_dataset
from ..readers.caption_source import CaptionedImages, CaptionSource
from ..readers.image_files import LeftOut, paths_below
from ..splits import splits_by_folder


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

    def __init__(self, place: Path) -> None:
        left_out = LeftOut(place)
        paths = paths_below(place, left_out)
        if not paths:
            get_it = "It is your own folder of images."
            raise missing_dataset("images", place, ("image.jpg in any folder",), get_it)
        split_of = splits_by_folder(paths) or dict.fromkeys(paths, "test")
        images = CaptionedImages(place, dict.fromkeys(paths, ()), split_of, left_out.notes())
        super().__init__(place, images, paths)
